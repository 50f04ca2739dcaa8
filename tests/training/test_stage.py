"""A stage on any image-text model: what trains, what stays, what is written, and what is refused before it starts."""

import json

import pytest
import torch
from datasets import Dataset
from numbered_rows import write_rows
from tiny_families import make
from trl import SFTConfig

from semihv_hf.errors import SemiHVError
from semihv_hf.training.adapters import decoder_pattern, load_merged
from semihv_hf.training.arguments import StageArguments
from semihv_hf.training.divergence import refuse_diverged
from semihv_hf.training.stage import Stage, load_model
from semihv_hf.training.stage_record import left_out, stage_record

CONNECTORS = {
    "llava": r"model\.multi_modal_projector\..*",
    "qwen2_vl": r"model\.visual\.merger\..*",
    "gemma3": r"model\.multi_modal_projector\..*",
    "pmc_cambrian": r"model\.connector\..*",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory, picture):
    """Eight rows, every third without an image, one with two."""
    return write_rows(tmp_path_factory.mktemp("rows"), picture, 8, lambda number: "Yes." * (1 + number % 3))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tiny_text_model):
    """A folder with a tiny model of a family."""
    made = {}

    def folder(name: str):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            family = make(name, tiny_text_model)
            if name == "pmc_cambrian":
                from semihv_hf.models.export import save_checkpoint

                save_checkpoint(family.model, family.processor, made[name])
            else:
                family.model.save_pretrained(made[name])
                family.processor.save_pretrained(made[name])
        return made[name]

    return folder


def settings(model, data, **changes):
    base = {"model": str(model), "stage": "2_test", "title": "Test", "dataset": str(data)}
    return StageArguments(**base | {"monitoring": False} | changes)


def config(out, **changes):
    base = {
        "bf16": False,
        "activation_checkpointing": False,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "max_steps": 2,
        "logging_steps": 1,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "assistant_only_loss": True,
        "max_length": 512,
        "disable_tqdm": True,
    }
    return SFTConfig(output_dir=str(out), **base | changes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "packing"),
    [*((name, False) for name in CONNECTORS), *((name, True) for name in CONNECTORS if name != "gemma3")],
)
def test_any_model_trains_what_its_patterns_say(name, packing, checkpoint, data, tmp_path):
    from transformers import AutoModelForImageTextToText

    before = load_model(settings(checkpoint(name), data, trainable=[".*"]), config(tmp_path))[0].state_dict()
    stage = Stage(
        settings(checkpoint(name), data, trainable=[CONNECTORS[name], r"model\.language_model\.layers\..*"]),
        config(tmp_path, **{"packing": True, "max_length": 200, "per_device_train_batch_size": 1} if packing else {}),
    )
    batch = next(iter(stage.trainer.get_train_dataloader()))
    batch.pop("report")
    with torch.no_grad():
        own = stage.model.eval()(**batch).loss
        fused = stage.model(**batch, fused_lm_head=True).loss
    torch.testing.assert_close(fused, own, atol=1e-5, rtol=1e-5)
    record = stage.train()
    assert len(record["log"]) == 2 and all(entry["loss"] > 0 for entry in record["log"])
    after = AutoModelForImageTextToText.from_pretrained(tmp_path).state_dict()
    assert after.keys() == before.keys()
    changed = {key for key in after if not after[key].equal(before[key])}
    assert changed and changed <= set(record["trainable"]["names"])
    assert json.loads((tmp_path / "stage.json").read_text()) == record
    assert not list(tmp_path.glob("*.bin"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pmc_cambrian", "llava"])
def test_adapters_merge_to_the_logits_of_the_unmerged_model(name, checkpoint, data, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    stage = Stage(
        settings(checkpoint(name), data, lora_r=4, lora_dropout=0.0),
        config(tmp_path / "adapter", learning_rate=1e-2),
    )
    batch = next(iter(stage.trainer.get_train_dataloader()))
    for key in ("report", "labels"):
        batch.pop(key)
    record = stage.train()
    assert record["trainable"]["names"] and all("vision_tower" not in key for key in record["trainable"]["names"])
    base = AutoModelForImageTextToText.from_pretrained(checkpoint(name), dtype=torch.float32).eval()
    with torch.no_grad():
        plain = base(**batch).logits
        unmerged = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()(**batch).logits
        merged = load_merged(tmp_path / "adapter", dtype=torch.float32).eval()(**batch).logits
    assert (unmerged - plain).abs().max() > 1e-2
    torch.testing.assert_close(merged, unmerged, atol=1e-4, rtol=1e-4)

    following = Stage(
        settings(tmp_path / "adapter", data, lora_r=4, lora_merge=True, lora_dropout=0.0), config(tmp_path / "merged")
    )
    following.train()
    whole = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    with torch.no_grad():
        assert (whole(**batch).logits - merged).abs().max() > 0


def test_default_adapters_are_the_text_decoders_alone(tiny_text_model):
    import re

    for name in ("llava", "qwen2_vl", "gemma3"):
        model = make(name, tiny_text_model).model
        pattern = decoder_pattern(model)
        matched = [key for key, module in model.named_modules() if re.fullmatch(pattern, key)]
        assert matched and all("language_model" in key and "vision" not in key for key in matched)
        assert len(matched) == 7 * model.config.get_text_config().num_hidden_layers


@pytest.mark.parametrize(
    ("changes", "trainer", "message"),
    [
        ({"streaming": True}, {"max_steps": -1}, "Set max_steps"),
        ({"expect_strategy": "zero3"}, {}, "The recipe expects zero3, but the run got single"),
        ({"expect_processes": 2}, {}, "expects 2 processes"),
    ],
)
def test_contradictions_stop_before_anything_is_loaded(changes, trainer, message, tmp_path):
    with pytest.raises(SemiHVError, match=message):
        Stage(settings("nowhere", "nothing", trainable=[".*"], **changes), config(tmp_path, **trainer))


def test_a_text_model_and_a_missing_one_are_refused(tiny_text_model, data, tmp_path):
    for model in (tiny_text_model, tmp_path / "nowhere"):
        with pytest.raises(SemiHVError, match="is no image-text model that can be trained") as caught:
            Stage(settings(model, data, trainable=[".*"]), config(tmp_path))
        assert "\n" not in str(caught.value)


def test_long_rows_are_counted_or_refused_and_the_objective_is_ours_alone(checkpoint, data, tmp_path):
    model = checkpoint("llava")
    trained = {"trainable": [CONNECTORS["llava"]]}
    stage = Stage(settings(model, data, **trained), config(tmp_path, max_length=60, per_device_train_batch_size=1))
    assert 0 < left_out(stage)["too_long"] < 8
    with pytest.raises(SemiHVError, match="longer than"):
        Stage(settings(model, data, long_rows="refuse", **trained), config(tmp_path, max_length=60))
    with pytest.raises(SemiHVError, match="a llava model has no connector with cells"):
        Stage(settings(model, data, alignment_weight=0.5, alignment_groups=["modality"], **trained), config(tmp_path))


def test_a_diverged_run_ends_with_one_line_its_log_and_no_weights(checkpoint, data, tmp_path):
    started = settings(checkpoint("llava"), data, trainable=[CONNECTORS["llava"]], spike_guard=False, monitoring=True)
    saving = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3}
    stage = Stage(started, config(tmp_path, learning_rate=1e30, **saving))
    with pytest.raises(
        SemiHVError, match=r"has diverged: \d+ trained tensors .* without a number is step 2\."
    ) as caught:
        stage.train()
    assert f"go on with `resume: {tmp_path / 'checkpoint-1'}`" in str(caught.value)
    assert not (tmp_path / "stage.json").exists() and not (tmp_path / "model.safetensors").exists()
    record = strict(tmp_path / "diverged.json")
    assert record["log"][0]["loss"] > 0 and [entry["loss"] for entry in record["log"][1:]] == [None, None]
    assert record["log_not_finite"]["loss"] == {"first_step": 2, "entries": 2}
    assert strict(tmp_path / "checkpoint-3" / "trainer_state.json")["log_history"][-1]["loss"] is None
    # A step that was skipped leaves sound weights: the run goes on to its end, and says what is missing.
    stage = Stage(started, config(tmp_path / "sound", max_steps=1))
    stage.trainer.state.log_history = [{"loss": 1.0, "grad_norm": float("inf"), "step": 1}]
    record = stage_record(stage)
    refuse_diverged(stage.trainer, record)
    assert record["log"] == [{"loss": 1.0, "grad_norm": None, "step": 1}]
    assert record["log_not_finite"] == {"grad_norm": {"first_step": 1, "entries": 1}}
    # DeepSpeed takes no step whose gradient is infinite: the weights are finite, and of no use.
    stage.trainer.state.log_history.append({"loss": float("nan"), "step": 2})
    with pytest.raises(SemiHVError, match="the last loss is no number; first in the log without a number is step 1"):
        refuse_diverged(stage.trainer, stage_record(stage))


def test_a_run_that_could_use_no_row_is_no_success(checkpoint, data, tmp_path):
    rows = Dataset.from_parquet(str(data / "train.parquet"))
    (tmp_path / "asked").mkdir()
    rows.map(lambda row: {"messages": row["messages"][:1]}).to_parquet(tmp_path / "asked" / "train.parquet")
    unanswered = settings(
        checkpoint("llava"), tmp_path / "asked", trainable=[r"model\.language_model\..*"], max_bad_rows=8
    )
    stage = Stage(unanswered, config(tmp_path / "out"))
    with pytest.raises(SemiHVError, match="None of 8 rows could be used: {'no token to train on': 8}"):
        stage.train()
    assert not (tmp_path / "out" / "stage.json").exists()


def strict(path):
    """JSON that other readers than Python's take, too."""

    def refuse(name):
        raise AssertionError(name)

    return json.loads(path.read_text(), parse_constant=refuse)
