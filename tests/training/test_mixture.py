"""One dataset as it is, several brought together in the shares that were asked for, and what cannot be trained on."""

from types import SimpleNamespace

import pytest
from datasets import Dataset, Features, Image, List, Value

from semihv_hf.data.messages import message
from semihv_hf.errors import SemiHVError
from semihv_hf.training.mixture import load_mixture, structured

PART = {"type": Value("string"), "text": Value("string")}
MESSAGES = List({"role": Value("string"), "content": List(PART)})


@pytest.fixture
def write(tmp_path, picture):
    """Writes a dataset folder: `write("name", rows, kind)`, kind one of records, text, plain, image, table."""

    def make(name: str, count: int, kind: str) -> str:
        turn = [message("user", f"{name}?", int(kind == "records")), message("assistant", "Yes.")]
        image = picture(20, 30)
        rows = {
            "records": {
                "id": [f"{name}-{n}" for n in range(count)],
                "messages": [turn] * count,
                "images": [[image]] * count,
            },
            "text": {"messages": [turn] * count, "surplus": [1] * count},
            "plain": {"messages": [[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]] * count},
            "image": {"messages": [[{"role": "user", "content": "q"}]] * count, "image": [image] * count},
            "table": {"question": ["q"] * count},
        }[kind]
        features = None
        if kind == "records":
            features = Features({"id": Value("string"), "messages": MESSAGES, "images": List(Image())})
        elif kind == "image":
            words = List({"role": Value("string"), "content": Value("string")})
            features = Features({"messages": words, "image": Image()})
        folder = tmp_path / name
        folder.mkdir()
        Dataset.from_dict(rows, features=features).to_parquet(folder / "train.parquet")
        return str(folder)

    return make


def stage(*entries, **changes):
    settings = {
        "dataset": None,
        "dataset_config": None,
        "dataset_split": "train",
        "mixture": list(entries),
        "mixture_stop": "first_exhausted",
        "streaming": False,
    }
    return SimpleNamespace(**settings | changes)


def test_one_dataset_keeps_its_rows_and_columns(write):
    rows, shares = load_mixture(stage(dataset=write("a", 5, "text")), 0)
    assert rows.column_names == ["messages", "surplus", "images"] and len(rows) == 5
    assert [row["images"] for row in rows] == [[]] * 5
    assert shares[0].record() == {
        "dataset": "a",
        "config": None,
        "rows": 5,
        "asked": 1.0,
        "drawn": 5,
        "images": False,
    }


def test_weights_are_the_shares_and_the_seed_is_the_order(write):
    entries = [
        {"dataset": write("a", 300, "records"), "weight": 3},
        {"dataset": write("b", 300, "plain"), "weight": 1},
    ]
    rows, shares = load_mixture(stage(*entries), 5)
    again, _ = load_mixture(stage(*entries), 5)
    other, _ = load_mixture(stage(*entries), 6)
    assert rows["id"] == again["id"] and rows["id"] != other["id"]
    assert [share.asked for share in shares] == [0.75, 0.25]
    assert sum(share.drawn for share in shares) == len(rows)
    assert shares[0].drawn / len(rows) == pytest.approx(0.75, abs=0.06)
    assert [share.images for share in shares] == [True, False]
    first = next(row for row in rows if row["id"] is None)
    assert first["images"] == [] and first["messages"][0]["content"] == [{"type": "text", "text": "q"}]


def test_without_weights_every_row_comes_once(write):
    entries = [{"dataset": write(kind, 4, kind)} for kind in ("records", "text", "plain", "image")]
    rows, shares = load_mixture(stage(*entries), 0)
    assert len(rows) == 16 and [share.drawn for share in shares] == [4] * 4
    assert [len(row["images"]) for row in rows] == [1] * 4 + [0] * 8 + [1] * 4
    assert rows[15]["images"][0].size == (20, 30)
    # The image of a plain-string conversation has its place in it.
    assert [part["type"] for part in rows[15]["messages"][0]["content"]] == ["image", "text"]
    assert "surplus" not in rows.column_names


def test_streams_give_the_same_rows_in_the_same_order(write):
    entries = [{"dataset": write("a", 30, "records"), "weight": 1}, {"dataset": write("b", 30, "text"), "weight": 1}]
    whole, _ = load_mixture(stage(*entries), 2)
    stream, shares = load_mixture(stage(*entries, streaming=True), 2)
    streamed = list(stream)
    assert [row["id"] for row in streamed] == whole["id"]
    assert [len(row["images"]) for row in streamed] == [len(row["images"]) for row in whole]
    assert all(share.rows is None and share.asked == 0.5 for share in shares)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_dataset_without_messages_is_refused_by_name(write, streaming):
    entries = [{"dataset": write("good", 3, "records")}, {"dataset": write("bad", 3, "table")}]
    with pytest.raises(SemiHVError, match="bad has no column messages; its columns are question"):
        load_mixture(stage(*entries, streaming=streaming), 0)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dataset": "nowhere"}, "nowhere cannot be read"),
        ({"name": "x"}, "unknown key 'name'"),
        ({"weight": 1}, "names no dataset"),
        ({"dataset": "x", "weight": 0}, "weight of x is 0"),
    ],
)
def test_an_entry_that_cannot_be_used_is_refused(entry, message):
    with pytest.raises(SemiHVError, match=message):
        load_mixture(stage(entry), 0)


def test_weights_are_given_to_all_or_none(write):
    with pytest.raises(SemiHVError, match="weight of .* is None"):
        load_mixture(stage({"dataset": write("a", 1, "text"), "weight": 1}, {"dataset": "b"}), 0)


def test_images_stand_before_the_first_words_of_the_user():
    turns = [{"role": role, "content": role} for role in ("system", "user", "assistant", "user")]
    kinds = [[part["type"] for part in item["content"]] for item in structured(turns, 2)]
    assert kinds == [["text"], ["image", "image", "text"], ["text"], ["text"]]
