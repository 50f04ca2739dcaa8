"""A stream becomes packs within the workers: every row once, what cannot be used counted."""

import pytest
import tiny_families
from datasets import Dataset, Image, List
from tiny_families import encoded, row
from torch.utils.data import DataLoader

from semihv_hf.errors import SemiHVError
from semihv_hf.training.collation import VisionCollator
from semihv_hf.training.streaming import PackedStream


@pytest.fixture(scope="module")
def llava():
    return tiny_families.llava()


def stream(picture, broken: int = 0):
    rows = []
    for number in range(40):
        images = [encoded(picture(40, 30, number))] if number % 3 else []
        rows.append(row(*["image"] * len(images), "Is this a CT? " * (number % 5 + 1), images=images, id=str(number)))
    rows += [row("image", "x", images=[{"bytes": b"?", "path": None}], id=f"bad {n}") for n in range(broken)]
    return Dataset.from_list(rows).cast_column("images", List(Image())).to_iterable_dataset(num_shards=4)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_row_of_a_stream_is_in_one_pack(llava, picture, workers):
    packs = PackedStream(stream(picture, broken=2), llava.processor, 256, buffer=16)
    settings = {"packing": True, "model_config": llava.model.config, "report": True}
    loader = DataLoader(
        packs, batch_size=1, num_workers=workers, collate_fn=VisionCollator(llava.processor, **settings)
    )
    seen = []
    for batch in loader:
        assert batch["input_ids"].shape[0] == 1 and batch["input_ids"].shape[1] <= 256
        seen += batch["report"].row_ids
    assert sorted(seen, key=int) == [str(number) for number in range(40)]
    if not workers:
        assert set(packs.bad_rows.reasons) == {"bad 0", "bad 1"}


def test_too_many_bad_rows_end_the_stream(llava, picture):
    packs = PackedStream(stream(picture, broken=2), llava.processor, 256, max_bad_rows=1)
    with pytest.raises(SemiHVError, match="2 rows cannot be used"):
        list(packs)
    with pytest.raises(SemiHVError, match="no column messages"):
        PackedStream(Dataset.from_dict({"a": [1]}), llava.processor, 256)
