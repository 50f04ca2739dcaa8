"""Choosing, counting and grouping parameters, and proving that the others did not change."""

import pytest
import torch
from torch import nn

from semihv_hf.errors import SemiHVError
from semihv_hf.training.parameters import changed_parameters, frozen_digests, optimizer_groups, select_trainable


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.ModuleDict({"tower": nn.Linear(3, 4), "connector": nn.Linear(4, 5), "norm": nn.LayerNorm(5)})


def test_select_trainable_takes_exactly_the_matches(model):
    report = select_trainable(model, [r"connector\..*"])
    assert report.names == ["connector.weight", "connector.bias"]
    assert report.parameters == 25
    assert (report.frozen_tensors, report.frozen_parameters) == (4, 26)
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == report.names


@pytest.mark.parametrize(
    ("pattern", "message"), [("conector.*", "matches no parameter"), ("(", "no regular expression")]
)
def test_a_useless_pattern_is_an_error(model, pattern, message):
    with pytest.raises(SemiHVError, match=message):
        select_trainable(model, [pattern])


def test_a_pattern_must_match_the_whole_name(model):
    with pytest.raises(SemiHVError, match="matches no parameter"):
        select_trainable(model, ["connector"])


def test_changed_parameters_sees_one_flipped_bit(model):
    select_trainable(model, [r"connector\..*"])
    before = frozen_digests(model)
    assert sorted(before) == ["norm.bias", "norm.weight", "tower.bias", "tower.weight"]
    with torch.no_grad():
        model["connector"].weight.add_(1)
    assert changed_parameters(model, before) == []
    with torch.no_grad():
        model["tower"].weight[0, 0] = torch.nextafter(model["tower"].weight[0, 0], torch.tensor(torch.inf))
    assert changed_parameters(model, before) == ["tower.weight"]


def test_digests_read_any_dtype(model):
    model.to(torch.bfloat16).requires_grad_(False)
    assert len(set(frozen_digests(model).values())) >= 5


def test_optimizer_groups_hold_every_parameter_once(model):
    select_trainable(model, [".*"])
    groups = optimizer_groups(model, 1e-3, {r"tower\..*": 1e-4}, weight_decay=0.1)
    sizes = {group["group_name"]: (group["lr"], group["weight_decay"], len(group["params"])) for group in groups}
    assert sizes == {
        r"tower\..*": (1e-4, 0.1, 1),
        r"tower\..* (no decay)": (1e-4, 0.0, 1),
        "connector": (1e-3, 0.1, 1),
        "connector (no decay)": (1e-3, 0.0, 1),
        "text (no decay)": (1e-3, 0.0, 2),
    }


def test_a_rate_for_nothing_is_an_error(model):
    select_trainable(model, [r"tower\..*"])
    with pytest.raises(SemiHVError, match="connector"):
        optimizer_groups(model, 1e-3, {r"connector\..*": 1e-4}, weight_decay=0.0)
