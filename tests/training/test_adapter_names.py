"""What an adapter says it belongs to."""

import json
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model

from semihv_hf.errors import SemiHVError
from semihv_hf.training.adapters import check_merge, check_start, name_base, snapshot_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def adapted():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    return get_peft_model(model, LoraConfig(r=2, target_modules=["0"]))


def test_an_adapter_names_the_hub_id_where_there_is_one(adapted, tmp_path):
    snapshot = tmp_path / "hub" / "models--clinic--small-model" / "snapshots" / COMMIT
    name_base(adapted, str(snapshot))
    adapted.peft_config["default"].save_pretrained(tmp_path / "adapter")
    text = (tmp_path / "adapter" / "adapter_config.json").read_text()
    assert json.loads(text)["base_model_name_or_path"] == "clinic/small-model"
    assert json.loads(text)["revision"] == COMMIT and str(tmp_path) not in text
    name_base(adapted, "clinic/other")
    assert adapted.peft_config["default"].base_model_name_or_path == "clinic/other"
    name_base(adapted, str(tmp_path))
    assert adapted.peft_config["default"].base_model_name_or_path == str(tmp_path)
    assert snapshot_of(tmp_path) is None and snapshot_of(f"{snapshot}/") == ("clinic/small-model", COMMIT)


@pytest.mark.parametrize(
    ("changes", "refused"),
    [({}, True), ({"lora_merge": True}, False), ({"lora_merge": True, "load_in_4bit": True}, True)],
)
def test_new_adapters_on_an_adapter_must_become_whole_weights(changes, refused, tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    stage = SimpleNamespace(model=str(tmp_path), **{"lora_merge": False, "load_in_4bit": False} | changes)
    if not refused:
        check_start(stage)
        return
    with pytest.raises(SemiHVError, match="is an adapter: new adapters would be loaded on its base model, without it"):
        check_start(stage)


def test_sharded_weights_are_not_merged():
    merges = SimpleNamespace(lora_r=4, lora_merge=True)
    check_merge(merges, "zero2")
    check_merge(SimpleNamespace(lora_r=4, lora_merge=False), "zero3")
    with pytest.raises(SemiHVError, match="lora_merge needs the whole weights in one process, but zero3 shards them"):
        check_merge(merges, "zero3")
