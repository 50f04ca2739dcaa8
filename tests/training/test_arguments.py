"""Settings that contradict each other, or that no one knows, are refused in one line."""

import warnings
from pathlib import Path

import pytest
from trl import DPOConfig, SFTConfig

from semihv_hf.errors import SemiHVError
from semihv_hf.training.arguments import StageArguments, check_option_keys, read_settings
from semihv_hf.training.preference import PreferenceArguments

BASE = {"model": "m", "stage": "s", "title": "S", "dataset": "d", "trainable": [".*"]}


def test_mappings_come_from_yaml_or_as_json():
    entry = '{"dataset": "a", "weight": 2}'
    settings = StageArguments(
        **BASE | {"dataset": None}, learning_rates='{"a.*": 1e-3}', mixture=[entry, {"dataset": "b"}]
    )
    assert settings.learning_rates == {"a.*": 1e-3}
    # YAML takes 1e-3, without a point, for a text.
    assert StageArguments(**BASE, learning_rates={"a.*": "1e-3"}).learning_rates == {"a.*": 1e-3}
    assert settings.mixture == [{"dataset": "a", "weight": 2}, {"dataset": "b"}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": None}, "No dataset is set"),
        ({"mixture": [{"dataset": "b"}]}, "Both dataset and mixture"),
        ({"replay_share": 0.2}, "A replayed share needs replay_share"),
        ({"dataset": None, "mixture": [{"dataset": "b", "replay": True}], "replay_share": 0.2}, "and one without"),
        ({"trainable": []}, "Nothing trains"),
        ({"lora_r": 8}, "trainable and lora_r are both set"),
        ({"load_in_4bit": True}, "without lora_r"),
        ({"learning_rates": "{"}, "learning_rates is no JSON"),
        ({"learning_rates": "[1]"}, "must hold `key: value`"),
        ({"learning_rates": {"(": 1e-4}}, r"learning_rates: '\(': 0.0001 is no regular expression"),
        ({"learning_rates": {"a": "fast"}}, "learning_rates: 'a': 'fast' is no regular expression with its rate"),
        ({"learning_rates": {"a": None}}, "'a': None"),
        ({"learning_rates": {"a": -1}}, "the rate of 'a' is -1"),
        ({"sampling": "sorted"}, "sampling is 'sorted'. Choose one of length, trainer"),
        ({"long_rows": "cut"}, "long_rows is 'cut'"),
        ({"mixture_stop": "never"}, "mixture_stop is 'never'"),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(SemiHVError, match=message):
        StageArguments(**BASE | changes)


def test_an_unknown_option_is_named_with_the_nearest():
    check_option_keys(["--learning_rate", "1", "--lora-r=4", "--no_monitoring"], StageArguments, SFTConfig)
    with pytest.raises(SemiHVError, match="unknown option 'pack_lenght'. Did you mean 'pack_length'?"):
        check_option_keys(["--pack_lenght", "4"], StageArguments, SFTConfig)


def test_no_setting_is_both_ours_and_trls():
    ours, theirs = set(StageArguments.__dataclass_fields__), set(SFTConfig.__dataclass_fields__)
    assert len(ours) > 20 and not ours & theirs


SMOKE = sorted((Path(__file__).parents[2] / "recipes").glob("[sp]*/smoke.yaml"))


@pytest.mark.parametrize("recipe", SMOKE, ids=lambda path: path.parent.name)
def test_no_recipe_sets_what_transformers_has_renamed(recipe):
    assert len(SMOKE) == 4
    kinds = (PreferenceArguments, DPOConfig) if recipe.parent.name == "preference" else (StageArguments, SFTConfig)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        assert read_settings(["--config", str(recipe)], *kinds)[1].activation_checkpointing is False


@pytest.mark.parametrize(
    ("recipe", "options", "expected"),
    [
        ("", [], True),  # TRL's default
        ("gradient_checkpointing: false", [], False),
        ("activation_checkpointing: true", ["--gradient_checkpointing", "false"], False),
        ("activation_checkpointing: true", ["--no-gradient-checkpointing"], False),
        ("activation_checkpointing: false", ["--gradient-checkpointing=true"], True),
        ("gradient_checkpointing: false", ["--activation_checkpointing"], True),
    ],
)
def test_the_old_name_of_a_setting_overrides_the_new_one_and_nothing_warns(recipe, options, expected, tmp_path):
    options = ["--model", "m", "--stage", "s", "--title", "t", "--dataset", "d", "--trainable", ".*", *options]
    (tmp_path / "recipe.yaml").write_text(f"use_cpu: true\nbf16: false\noutput_dir: {tmp_path}\n{recipe}\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        config = read_settings(["--config", str(tmp_path / "recipe.yaml"), *options], StageArguments, SFTConfig)[1]
    assert config.activation_checkpointing is config.gradient_checkpointing is expected
    (tmp_path / "recipe.yaml").write_text("gradient_checkpointing: false\nactivation_checkpointing: true\n")
    with pytest.raises(SemiHVError, match="are both set. Leave gradient_checkpointing, the old name, out"):
        read_settings(["--config", str(tmp_path / "recipe.yaml"), *options], StageArguments, SFTConfig)
