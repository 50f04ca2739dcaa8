"""DPO on pairs with images: the chosen answers gain on the rejected ones, and only adapters move."""

import io
import json
import runpy

import pytest
import torch
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PILImage
from small_cambrian import small_model, small_processor

from semihv_hf.errors import SemiHVError
from semihv_hf.training.preference import PreferenceArguments, prepare_pairs

TEXTS = Features(
    {name: Value("string") for name in ("prompt", "chosen", "rejected")} | {"images": List(Image(decode=False))}
)


def png(width, height, shade):
    data = io.BytesIO()
    PILImage.new("L", (width, height), shade).save(data, "PNG")
    return {"bytes": data.getvalue(), "path": None}


def pairs(count=8):
    """Bright images are to be answered with Yes, dark ones with No; every third row is text only."""
    rows = []
    for number in range(count):
        bright = number % 2 == 0
        images = [] if number % 3 == 2 else [png(60, 40, 220 if bright else 30)]
        # What is rejected is the hedge: a tiny random model learns that in a few steps, and images not at all.
        answers = ("Yes.", "Perhaps.") if bright else ("No.", "Maybe.")
        rows.append(
            {"prompt": "Is this an axial MRI?", "chosen": answers[0], "rejected": answers[1], "images": images}
        )
    return rows


def as_dataset(rows):
    return Dataset.from_list(rows, features=TEXTS).cast_column("images", List(Image()))


@pytest.fixture(scope="module")
def processor(tiny_text_model):
    return small_processor(tiny_text_model)


@pytest.fixture(scope="module")
def checkpoint(processor, tmp_path_factory):
    from semihv_hf.models.export import save_checkpoint

    return save_checkpoint(small_model(processor), processor, tmp_path_factory.mktemp("dpo") / "tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    as_dataset(pairs(16)).to_parquet(folder / "train.parquet")
    return folder


@pytest.fixture
def tune(root, tmp_path, checkpoint, folder):
    """Runs recipes/dpo.py with the smoke recipe and more options: `tune("--beta", "0.2")`; the output folder."""

    def run(*options):
        main = runpy.run_path(str(root / "recipes" / "dpo.py"))["main"]
        recipe = root / "recipes" / "preference" / "smoke.yaml"
        where = ["--model", str(checkpoint), "--dataset", str(folder), "--output_dir", str(tmp_path / "out")]
        main(["--config", str(recipe), *where, *options])
        return tmp_path / "out"

    return run


def test_the_recipe_lowers_the_loss_and_widens_the_margin(tune, checkpoint):
    out = tune()
    record = json.loads((out / "stage.json").read_text())
    log = record["log"]
    assert len(log) == 12 and log[0]["loss"] == pytest.approx(0.6931, abs=1e-3)  # adapters start as nothing
    assert log[-1]["loss"] < 0.6 and log[-1]["rewards/margins"] > log[0]["rewards/margins"] + 0.2
    assert log[0]["images_per_second"] > 0 and record["frozen"]["bit_identical"]
    assert record["recipe"] == "recipes/preference/smoke.yaml" and record["rows"] == 16
    assert record["model"] == checkpoint.name and record["sources"] is None
    assert record["trainable"]["tensors"] == len(record["trainable"]["names"]) == 3 * 7 * 2
    assert record["strategy"] == {"name": "single", "processes": 1}
    assert "DPO" in (out / "README.md").read_text() and not (out / "training_args.bin").exists()
    assert {"grad_norm/adapters", "learning_rate/adapters"} <= log[0].keys()
    # Only adapters of the decoder are saved; they load on the base model.
    from peft import PeftModel

    from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import PMCCambrianForConditionalGeneration

    names = tensor_names(out / "adapter_model.safetensors")
    assert len(names) == 3 * 7 * 2 and all(".language_model.layers." in name and ".lora_" in name for name in names)
    base = PMCCambrianForConditionalGeneration.from_pretrained(checkpoint)
    assert PeftModel.from_pretrained(base, out).peft_config["default"].r == 8


def tensor_names(path):
    from safetensors import safe_open

    with safe_open(path, framework="pt") as handle:
        return list(handle.keys())


def test_full_tuning_keeps_frozen_parts_and_writes_a_whole_checkpoint(tune, checkpoint):
    trainable = r"model\.language_model\.layers\..*"
    out = tune("--trainable", trainable, "--lora_r", "0", "--learning_rate", "1e-3", "--max_steps", "4")
    log = json.loads((out / "stage.json").read_text())["log"]
    assert log[-1]["rewards/margins"] > 0
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(out)
    before = AutoModelForImageTextToText.from_pretrained(checkpoint).state_dict()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("model.language_model.layers.") for name in changed)


def test_merged_adapters_are_a_whole_checkpoint(tune, checkpoint):
    from safetensors.torch import load_file

    out = tune("--lora_merge", "--max_steps", "2")
    before, after = (load_file(folder / "model.safetensors") for folder in (checkpoint, out))
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys() and not (out / "adapter_config.json").exists()
    assert len(changed) == 3 * 7 and all(".language_model.layers." in name for name in changed)


def test_a_dry_run_shows_both_answers_of_a_pair_and_another_strategy_is_refused(tune, capsys):
    out = tune("--dry_run", "--per_device_train_batch_size", "1")
    shown = capsys.readouterr().out
    answers = ("Yes", "No", "Perhaps", "Maybe")
    assert "batch of 2 x " in shown and sum(shown.count(f"[[{answer}") for answer in answers) == 2
    assert not (out / "stage.json").exists()
    with pytest.raises(SemiHVError, match="expects zero3, but the run got single"):
        tune("--expect_strategy", "zero3")


def test_an_unknown_option_is_refused(tune):
    with pytest.raises(SemiHVError, match="unknown option 'betta'. Did you mean 'beta'?"):
        tune("--betta", "0.2")


def test_pairs_are_brought_to_messages_and_bad_ones_are_counted(processor):
    rows = pairs(4)
    rows += [
        {**rows[0], "chosen": ""},
        {**rows[0], "rejected": f" {rows[0]['chosen']} "},
        {**rows[0], "prompt": "Is this? " * 400},
    ]
    noise = io.BytesIO()
    PILImage.effect_noise((60, 40), 50).save(noise, "PNG")
    # The header of the second is whole.
    for data in (b"no image", noise.getvalue()[: noise.tell() // 2]):
        rows.append({**rows[0], "images": [{"bytes": data, "path": None}]})
    prepared, left_out = prepare_pairs(as_dataset(rows), processor, max_length=400, max_bad_rows=2)
    assert left_out == {"empty": 1, "equal answers": 1, "too long": 1, "refused": 2} and len(prepared) == 4
    with pytest.raises(SemiHVError, match=r"2 rows cannot be used, more than max_bad_rows \(1\): last row 8: "):
        prepare_pairs(as_dataset(rows), processor, max_bad_rows=1)
    assert prepared[0]["prompt"] == [{"role": "user", "content": "Is this an axial MRI?"}]
    assert prepared[1]["chosen"] == [{"role": "assistant", "content": "No."}]
    assert [len(row["images"]) for row in prepared] == [1, 1, 0, 1]
    # Without a limit the long pair stays.
    assert len(prepare_pairs(as_dataset(rows), processor, max_bad_rows=2)[0]) == 5


def test_structured_messages_become_plain_text(processor):
    content = [{"type": "image", "text": None}, {"type": "text", "text": "What plane is shown?"}]
    rows = Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": content}],
                "chosen": [{"role": "assistant", "content": [{"type": "text", "text": "axial"}]}],
                "rejected": [{"role": "assistant", "content": [{"type": "text", "text": "coronal"}]}],
            }
        ]
    )
    prepared, _ = prepare_pairs(rows, processor)
    assert prepared[0]["prompt"] == [{"role": "user", "content": "What plane is shown?"}]
    assert prepared[0]["images"] == []


def test_what_is_no_preference_data_or_no_choice_of_parameters_is_refused(processor):
    with pytest.raises(SemiHVError, match="no column rejected; their columns are prompt, chosen"):
        prepare_pairs(Dataset.from_dict({"prompt": ["a"], "chosen": ["b"]}), processor)
    with pytest.raises(SemiHVError, match="None of 1 pairs"):
        prepare_pairs(Dataset.from_dict({"prompt": ["a"], "chosen": ["b"], "rejected": ["b"]}), processor)
    with pytest.raises(SemiHVError, match="either lora_r or trainable"):
        PreferenceArguments(model="m", dataset="d")
    with pytest.raises(SemiHVError, match="either lora_r or trainable"):
        PreferenceArguments(model="m", dataset="d", lora_r=4, trainable=["x"])
    with pytest.raises(SemiHVError, match="No dataset is set"):
        PreferenceArguments(model="m", lora_r=4)
    with pytest.raises(SemiHVError, match="4-bit weights cannot train"):
        PreferenceArguments(model="m", dataset="d", trainable=["x"], load_in_4bit=True)
