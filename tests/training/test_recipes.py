"""Every recipe: known keys only, and what its comments say about parameters, batch and memory is what comes out."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from trl import DPOConfig, SFTConfig

from semihv_hf.errors import SemiHVError
from semihv_hf.training.arguments import StageArguments, check_recipe_keys
from semihv_hf.training.estimate import estimate
from semihv_hf.training.meta_model import build_meta_model, census, released_config
from semihv_hf.training.plan import GPUS, make_plan, read_recipe, trains_in_float32, weight_dtype
from semihv_hf.training.preference import PreferenceArguments

ROOT = Path(__file__).parents[2]
RECIPES = sorted([*(ROOT / "recipes").glob("stage*/*.yaml"), *(ROOT / "recipes").glob("preference/*.yaml")])
LARGE = [path for path in RECIPES if path.name.startswith("8b")]

TOWERS, CONNECTOR, TEXT, ADAPTERS = 2_695_384_304, 302_760_960, 8_030_261_248, 167_772_160
# What trains in each variant: the released checkpoint is connector and text, 8,333,022,208 parameters.
TRAINED = {
    "stage1_alignment/8b": CONNECTOR,
    "stage2_instruction/8b": CONNECTOR + TEXT,
    "stage2_instruction/8b_lora": CONNECTOR + ADAPTERS,
    "stage2_instruction/8b_qlora": CONNECTOR + ADAPTERS,
    "stage3_annealing/8b": CONNECTOR + TEXT,
    "stage3_annealing/8b_lora": CONNECTOR + ADAPTERS,
    "stage3_annealing/8b_qlora": CONNECTOR + ADAPTERS,
    "preference/8b_lora": ADAPTERS,
}


def name(path):
    return f"{path.parent.name}/{path.stem}"


def test_all_recipes_are_found():
    assert [name(path) for path in RECIPES] == [
        "preference/8b_lora",
        "preference/smoke",
        "stage1_alignment/8b",
        "stage1_alignment/smoke",
        "stage2_instruction/8b",
        "stage2_instruction/8b_lora",
        "stage2_instruction/8b_qlora",
        "stage2_instruction/smoke",
        "stage3_annealing/8b",
        "stage3_annealing/8b_lora",
        "stage3_annealing/8b_qlora",
        "stage3_annealing/smoke",
    ]
    assert {name(path) for path in LARGE} == set(TRAINED) and CONNECTOR + TEXT == 8_333_022_208


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_recipe_has_known_keys_and_states_what_it_takes(recipe):
    stage, settings = read_recipe(recipe)
    content = yaml.safe_load(recipe.read_text())
    assert bool(stage.trainable) != bool(stage.lora_r)
    assert stage.stage[0] == {"stage1": "1", "stage2": "2", "stage3": "3"}.get(recipe.parent.name[:6], "4")
    for key in ("learning_rate", "lr_scheduler_type", "max_grad_norm", "output_dir", "per_device_train_batch_size"):
        assert key in content, key
    text = recipe.read_text()
    assert re.search(r"^# .*Hardware: ", text, re.M) and re.search(r"[Tt]ime: ", text)
    assert "# Optimisation" in text and "# Run" in text and "@" not in text
    if recipe in LARGE:
        assert stage.plan["architecture"] == "pmc-cambrian-8b" and stage.plan["gpu"] in GPUS
        assert settings["bf16"] is True and settings["activation_checkpointing"] is True
        assert "(estimated)" in text


@pytest.mark.parametrize("recipe", LARGE, ids=name)
def test_the_global_batch_is_what_the_comment_says(recipe):
    plan = make_plan(*read_recipe(recipe))
    stated = re.search(r"Global batch: .*?= (\d+) (rows|pairs)", recipe.read_text())
    assert round(plan.rows_per_step) == int(stated[1])
    original = {"stage1_alignment/8b": 128, "stage2_instruction/8b": 384}.get(name(recipe))
    if original is not None:
        assert plan.rows_per_step == pytest.approx(original, rel=0.1)


@pytest.mark.parametrize("recipe", [path for path in LARGE if path.parent.name == "stage3_annealing"], ids=name)
def test_annealing_replays_a_share_that_can_be_set(recipe):
    content = yaml.safe_load(recipe.read_text())
    stage, _ = read_recipe(recipe)
    assert [entry["weight"] for entry in stage.mixture] == pytest.approx([0.8, 0.2])
    assert [entry["config"] for entry in stage.mixture] == ["annealing", "instruction"]
    assert all("replay" not in entry for entry in stage.mixture)
    parts = [*content["mixture"], {"dataset": "more", "weight": 3, "replay": True}]
    other = StageArguments(model="m", stage="3", title="t", trainable=["x"], mixture=parts, replay_share=0.4)
    assert [entry["weight"] for entry in other.mixture] == pytest.approx([0.6, 0.1, 0.3])


@pytest.mark.parametrize(("share", "marks"), [(None, [True, False]), (0.2, [False, False]), (0.2, [True, True])])
def test_a_replay_share_that_means_nothing_is_refused(share, marks):
    mixture = [{"dataset": "d", "replay": mark} for mark in marks]
    with pytest.raises(SemiHVError, match="replay_share"):
        StageArguments(model="m", stage="3", title="t", trainable=["x"], mixture=mixture, replay_share=share)
    with pytest.raises(SemiHVError, match="between 0 and 1"):
        good = [{"dataset": "a", "replay": True}, {"dataset": "b"}]
        StageArguments(model="m", stage="3", title="t", trainable=["x"], mixture=good, replay_share=1.2)


def test_stage_one_has_a_rate_of_its_own_for_the_samplers():
    """Every trained name of stage 1 that the authors give the samplers' rate has it, and no other."""
    stage, settings = read_recipe(ROOT / "recipes/stage1_alignment/8b.yaml")
    names = {
        "model.connector.aux_projectors.0.fc1.weight": False,
        "model.connector.projector.fc2.bias": False,
        "model.connector.image_newline": False,
        "model.connector.query": True,
        "model.connector.layers.2.mlp.fc1.weight": True,
        "model.language_model.vision_samplers.9.proj_in.weight": True,
    }
    for parameter, apart in names.items():
        assert any(re.fullmatch(pattern, parameter) for pattern in stage.trainable)
        assert any(re.fullmatch(pattern, parameter) for pattern in stage.learning_rates) is apart, parameter
    assert set(stage.learning_rates.values()) == {1e-4} and settings["learning_rate"] == 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("recipe", LARGE, ids=name)
def test_the_8b_model_of_a_recipe_on_the_meta_device(recipe):
    stage, settings = read_recipe(recipe)
    plan = make_plan(stage, settings)
    model = build_meta_model(released_config(), stage, weight_dtype(settings), wide=trains_in_float32(plan))
    assert all(parameter.is_meta for parameter in model.parameters())
    parts = census(model, stage.load_in_4bit)
    trained = sum(part.trainable for part in parts.values())
    assert trained == TRAINED[name(recipe)]
    assert parts["towers"].numel == TOWERS and parts["towers"].trainable == 0
    # PEFT holds a module that trains in full twice.
    twice = CONNECTOR if stage.lora_r and getattr(stage, "lora_modules_to_save", None) else 0
    everything = TOWERS + CONNECTOR + TEXT + twice + (ADAPTERS if stage.lora_r else 0)
    assert sum(part.numel for part in parts.values()) == everything
    assert f"{trained:,} parameters" in recipe.read_text()
    # Adapters sit on every decoder projection, and nowhere else.
    adapters = {key for key, parameter in model.named_parameters() if ".lora_" in key}
    assert len(adapters) == (32 * 7 * 2 if stage.lora_r else 0)
    assert all(".language_model.layers." in key for key in adapters)

    result = estimate(model, plan, stage.load_in_4bit)
    assert result.fits
    stated = re.search(
        r"Memory and time: (\d+) GiB of (\d+) on each GPU, (\d+) GPU-hours \(estimated\)", recipe.read_text()
    )
    assert result.memory_gib == pytest.approx(int(stated[1]), abs=1) and int(stated[2]) == int(GPUS[plan.gpu][1])
    assert result.gpu_hours == pytest.approx(int(stated[3]), rel=0.02, abs=1)
    if name(recipe) == "stage2_instruction/8b":  # 16 bytes for each trained parameter, by ZeRO-2 on eight GPUs
        states = result.memory["optimizer states"] + result.memory["float32 weights"]
        assert states == 12 * (CONNECTOR + TEXT) / 8 and result.memory["trained weights"] == 2 * (CONNECTOR + TEXT)


def test_the_released_configuration_has_the_known_sizes():
    config = released_config()
    assert config.sva_config.num_keys == 19 and config.sva_config.sampler_layers == tuple(range(0, 28, 3))
    sizes = [getattr(config, f"{tower}_config").image_size for tower in ("siglip", "clip", "dino", "convnext")]
    assert sizes == [384, 336, 378, 1024]


def test_unknown_key_is_named_with_the_nearest(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("learning_rat: 1.0e-3\n")
    with pytest.raises(SemiHVError, match="unknown key 'learning_rat'. Did you mean 'learning_rate'?"):
        check_recipe_keys(recipe, StageArguments, SFTConfig)
    recipe.write_text("bet: 0.1\n")
    with pytest.raises(SemiHVError, match="unknown key 'bet'. Did you mean 'beta'?"):
        check_recipe_keys(recipe, PreferenceArguments, DPOConfig)


@pytest.mark.parametrize(("text", "message"), [("a: [", "is no YAML"), ("just words", "holds no settings")])
def test_a_file_that_is_no_recipe(tmp_path, text, message):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    with pytest.raises(SemiHVError, match=message):
        check_recipe_keys(recipe, StageArguments, SFTConfig)


def test_a_missing_recipe(tmp_path):
    with pytest.raises(SemiHVError, match="There is no recipe"):
        check_recipe_keys(tmp_path / "none.yaml", StageArguments, SFTConfig)


GPU_NAMES = {"h100": "H100 80 GB", "l40s": "L40S 48 GB"}


def table_row(recipe):
    """The row of recipes/README.md on a recipe, as its cells; there is exactly one."""
    table = (ROOT / "recipes" / "README.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith(f"| `recipes/{name(recipe)}.yaml` ")]
    assert len(rows) == 1, name(recipe)
    return [cell.strip() for cell in rows[0].strip("|").split("|")]


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_the_table_of_recipes_says_what_the_recipe_says(recipe):
    _, command, hardware, takes = table_row(recipe)
    text, (stage, settings) = recipe.read_text(), read_recipe(recipe)
    script = "dpo" if recipe.parent.name == "preference" else "sft"
    plan = make_plan(stage, settings)
    if recipe not in LARGE:
        spread = "--config_file recipes/accelerate/cpu.yaml"
        stated = re.search(r"Hardware: (2 CPU cores), (\d+ GiB)\. Time: ([\w ]+)", text)
        assert hardware == stated[1] and takes.startswith(f"{stated[2]}, {stated[3]}")
        assert settings["use_cpu"] is True
    else:
        single = stage.expect_strategy == "single"
        spread = "--num_processes 1" if single else f"--config_file recipes/accelerate/{stage.expect_strategy}.yaml"
        assert (stage.expect_processes == 1) is single
        assert hardware == f"{stage.expect_processes} x {GPU_NAMES[plan.gpu]}"
        stated = re.search(r"Memory and time: (\d+) GiB of \d+ on each GPU, (\d+) GPU-hours", text)
        count = f"{stage.plan['rows']:,} " + ("pairs" if stage.stage in ("1_alignment", "4_preference") else "rows")
        twice = " twice" if settings["num_train_epochs"] == 2 else ""
        assert takes == f"{stated[1]} GiB, {stated[2]} GPU-hours (estimated) for {count}{twice}"
    assert command == f"`accelerate launch {spread} recipes/{script}.py --config recipes/{name(recipe)}.yaml`"


def test_the_table_has_no_other_recipe_and_the_weights_are_bfloat16():
    table = (ROOT / "recipes" / "README.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("| `recipes/")]
    assert len(rows) == len(RECIPES) == 12
    assert {weight_dtype(read_recipe(path)[1]) for path in LARGE} == {torch.bfloat16}


def test_the_readme_names_every_accelerate_file():
    text = (ROOT / "recipes" / "README.md").read_text()
    files = sorted(path.name for path in (ROOT / "recipes" / "accelerate").glob("*.yaml"))
    assert files == ["cpu.yaml", "ddp.yaml", "fsdp2.yaml", "zero2.yaml", "zero3.yaml"]
    assert all(f"| `{file}` |" in text for file in files)


def test_the_job_script_is_valid_shell_and_sends_the_signals_that_the_trainer_knows():
    import subprocess

    script = ROOT / "recipes" / "slurm" / "train.slurm"
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    for line in ("#SBATCH --requeue", "#SBATCH --signal=B:USR1@300", "scontrol requeue", "--array"):
        assert (line in text) is (line != "--array"), line
