"""What must agree for a run to be resumed, and what may differ."""

import pytest
import torch
from datasets import Dataset, Features, Image, List, Value
from torch import nn

from semihv_hf.training.resume_facts import data_facts, difference, model_facts


def rows(count, picture, seed=0):
    features = Features({"id": Value("string"), "images": List(Image())})
    table = [{"id": f"row-{index}", "images": [picture(8, 8, seed=index + seed)]} for index in range(count)]
    return Dataset.from_list(table, features=features)


def test_the_same_rows_are_the_same_data_wherever_they_lie(picture, tmp_path):
    data = rows(20, picture)
    facts = data_facts(data)
    assert facts["rows"] == 20 and facts["columns"] == ["id", "images"]
    data.save_to_disk(str(tmp_path / "copy"))
    again = Dataset.load_from_disk(str(tmp_path / "copy"))
    assert data_facts(again) == facts
    # Chosen by an index, as splits and shuffles are.
    assert data_facts(data.select(list(range(20)))) == facts


@pytest.mark.parametrize(
    "change",
    [
        lambda data, picture: data.select(range(19)),
        lambda data, picture: data.shuffle(seed=1),
        lambda data, picture: data.remove_columns("images"),
        lambda data, picture: rows(20, picture, seed=7),
    ],
    ids=["fewer", "order", "columns", "pixels"],
)
def test_other_rows_are_other_data(picture, change):
    data = rows(20, picture)
    assert data_facts(change(data, picture)) != data_facts(data)


def test_a_stream_is_told_by_its_columns_and_first_rows(picture):
    facts = data_facts(rows(12, picture).to_iterable_dataset())
    assert facts["rows"] is None and facts["columns"] == ["id", "images"]
    assert data_facts(rows(12, picture).to_iterable_dataset(num_shards=3)) == facts
    assert data_facts(rows(12, picture, seed=7).to_iterable_dataset()) != facts


def test_architecture_is_names_and_shapes_and_not_values():
    first, second = nn.Linear(3, 4), nn.Linear(3, 4)
    assert model_facts(first) == model_facts(second)
    assert model_facts(nn.Linear(4, 3))["architecture"] != model_facts(first)["architecture"]
    second.bias.requires_grad_(False)
    assert model_facts(second)["architecture"] == model_facts(first)["architecture"]
    assert model_facts(second)["trainable"] != model_facts(first)["trainable"]


def test_a_part_of_a_sharded_parameter_counts_as_the_whole():
    whole, part = nn.Linear(3, 4), nn.Linear(3, 4)
    for name, value in list(part.named_parameters()):
        shape = value.shape
        value.data = torch.empty(0)
        value.ds_shape = shape
        assert dict(part.named_parameters())[name].numel() == 0
    assert model_facts(part) == model_facts(whole)


def test_the_number_of_processes_is_free_only_where_every_one_holds_the_model():
    run = {"strategy": "replicated", "world_size": 2, "global_batch": 8, "seed": [0, None]}
    assert difference(run, {**run, "world_size": 4}) is None
    assert difference(run, {**run, "global_batch": 16}) == "the global batch differs: 8 there, 16 here"
    sharded = {**run, "strategy": "deepspeed-zero3"}
    assert difference(sharded, {**sharded, "world_size": 4}) == "the number of processes differs: 2 there, 4 here"
    assert "the sharding strategy differs" in difference(run, sharded)
    assert difference({}, run) is not None
