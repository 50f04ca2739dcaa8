"""Settings that contradict each other, or that no one knows, are refused in one line."""

import pytest
from trl import SFTConfig

from semihv_hf.errors import SemiHVError
from semihv_hf.training.arguments import StageArguments, check_option_keys

BASE = {"model": "m", "stage": "s", "title": "S", "dataset": "d", "trainable": [".*"]}


def test_mappings_come_from_yaml_or_as_json():
    entry = '{"dataset": "a", "weight": 2}'
    settings = StageArguments(
        **BASE | {"dataset": None}, learning_rates='{"a.*": 1e-3}', mixture=[entry, {"dataset": "b"}]
    )
    assert settings.learning_rates == {"a.*": 1e-3}
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
