"""A stream becomes micro-batches within the workers: every row once a pass, on one process, what fails counted."""

from collections import Counter
from itertools import islice

import pytest
import tiny_families
from datasets import Dataset, Image, List
from tiny_families import encoded, row
from torch.utils.data import DataLoader

from semihv_hf.errors import SemiHVError
from semihv_hf.training.collation import VisionCollator
from semihv_hf.training.lengths import RowFailure
from semihv_hf.training.resume_facts import difference
from semihv_hf.training.streaming import BatchStream, StreamCollator

ROWS = 40


@pytest.fixture(scope="module")
def llava():
    return tiny_families.llava()


def stream(picture, broken: int = 0, files: int = 4):
    rows = []
    for number in range(ROWS):
        images = [encoded(picture(40, 30, number))] if number % 3 else []
        rows.append(row(*["image"] * len(images), "Is this a CT? " * (number % 5 + 1), images=images, id=str(number)))
    rows += [row("image", "x", images=[{"bytes": b"?", "path": None}], id=f"bad {n}") for n in range(broken)]
    return Dataset.from_list(rows).cast_column("images", List(Image())).to_iterable_dataset(num_shards=files)


def packed(picture, llava, *, broken=0, files=4, size=1, **settings):
    dataset = stream(picture, broken, files)
    settings = {"pack_length": 256, "buffer": 16, **settings}
    return BatchStream(dataset, size, processor=llava.processor, **settings)


def ids(micro_batch) -> list[str]:
    return [row["id"] for row in micro_batch if not isinstance(row, RowFailure)]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_row_of_a_stream_is_in_one_pack_of_a_pass(llava, picture, workers):
    packs = packed(picture, llava, broken=2, workers=workers, shuffle=8)
    collator = VisionCollator(llava.processor, packing=True, model_config=llava.model.config, report=True)
    loader = DataLoader(packs, batch_size=1, num_workers=workers, collate_fn=StreamCollator(collator))
    rows, left_out = Counter(), set()
    for batch in loader:
        assert batch["input_ids"].shape[0] == 1 and batch["input_ids"].shape[1] <= 256
        rows.update(batch["report"].row_ids)
        left_out |= {failure.id for failure in batch["report"].left_out}
        if len(rows) == ROWS and len(left_out) == 2:
            break
    assert set(rows) == {str(number) for number in range(ROWS)}
    assert left_out == {"bad 0", "bad 1"}
    # Two workers need not be in the same pass.
    assert max(rows.values()) <= (3 if workers else 2)


def test_passes_differ_in_order_and_follow_from_the_seed(llava, picture):
    rows = BatchStream(stream(picture), 1, shuffle=64, seed=3)
    first = [row["id"] for (row,) in islice(rows, 2 * ROWS)]
    assert sorted(first[:ROWS]) == sorted(first[ROWS:]) == sorted(map(str, range(ROWS)))
    assert first[:ROWS] != first[ROWS:]
    assert [row["id"] for (row,) in islice(rows, 2 * ROWS)] == first
    other = BatchStream(stream(picture), 1, shuffle=64, seed=4)
    assert [row["id"] for (row,) in islice(other, ROWS)] != first[:ROWS]
    plain = BatchStream(stream(picture), 8)
    assert [ids(batch) for batch in islice(plain, 2)] == [[str(n) for n in range(at, at + 8)] for at in (0, 8)]


@pytest.mark.parametrize("files", [1, 3, 4])
def test_processes_read_disjoint_rows(llava, picture, files):
    """Whole files where they can be shared out, else every other row; shuffled alike."""
    parts = []
    for rank in range(2):
        part = packed(picture, llava, files=files, world_size=2, rank=rank, shuffle=16)
        seen = []
        for batch in part:
            if set(ids(batch)) & set(seen):  # the second pass
                break
            seen += ids(batch)
        parts.append(seen)
    assert not set(parts[0]) & set(parts[1])
    assert sorted(parts[0] + parts[1], key=int) == [str(number) for number in range(ROWS)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_stream_goes_on_where_it_was(llava, picture, workers):
    def batches(skipped: int, count: int):
        packs = packed(picture, llava, broken=1, workers=workers, size=2, shuffle=16)
        packs.skipped = skipped
        loader = DataLoader(packs, batch_size=1, num_workers=workers, collate_fn=lambda examples: examples[0])
        return [[getattr(row, "id", None) or row["id"] for row in batch] for batch in islice(loader, count)]

    whole = batches(0, 12)
    resumed = batches(5, 12)
    assert resumed[:5] == [[]] * 5
    good = [[[name for name in batch if "bad" not in name] for batch in part[5:]] for part in (whole, resumed)]
    assert good[0] == good[1] and all(good[0])
    # What could not be used on the way is told all the same.
    assert "bad 0" in sum(resumed, [])


def test_another_order_is_refused_in_one_line(llava, picture):
    def facts(**settings):
        return {"order": packed(picture, llava, **{"shuffle": 16, **settings}).state_dict()}

    assert difference(facts(workers=2), facts(workers=2)) is None
    for changes in ({"workers": 1}, {"size": 2}, {"seed": 1}, {"world_size": 2}, {"pack_length": 128}, {"shuffle": 4}):
        clause = difference(facts(), facts(**changes))
        assert clause.startswith("the order of rows differs: kind=BatchStream") and "\n" not in clause


def test_a_weighted_mixture_of_streams_is_the_same_in_every_run(llava, picture):
    from datasets import interleave_datasets

    parts = [stream(picture), stream(picture).map(Renamed(), features=stream(picture).features)]
    mixed = interleave_datasets(parts, probabilities=[0.8, 0.2], seed=1)
    runs = []
    for _ in range(2):
        packs = BatchStream(mixed, pack_length=256, processor=llava.processor, shuffle=16, seed=5)
        runs.append(sum((ids(batch) for batch in islice(packs, 40)), []))
    assert runs[0] == runs[1]
    share = sum(name.startswith("other") for name in runs[0]) / len(runs[0])
    assert 0.1 < share < 0.3 and len(runs[0]) > 2 * ROWS


class Renamed:
    def __call__(self, row):
        return {"id": f"other {row['id']}"}


def test_no_worker_is_without_a_file_and_a_stream_without_rows_ends(llava, picture):
    assert packed(picture, llava, files=3, workers=8).workers == 3
    assert packed(picture, llava, files=4, workers=8, world_size=2).workers == 2
    with pytest.raises(SemiHVError, match=r"no row that can be trained on, first row \d+: \d+ tokens, longer than 4"):
        next(iter(packed(picture, llava, pack_length=4)))
    with pytest.raises(SemiHVError, match="no column messages"):
        BatchStream(Dataset.from_dict({"a": [1]}).to_iterable_dataset())
