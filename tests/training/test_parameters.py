"""Choosing, counting and grouping parameters, and proving that the others did not change."""

import copy

import pytest
import torch
from torch import nn

from semihv_hf.errors import SemiHVError
from semihv_hf.training.parameters import (
    changed_parameters,
    frozen_digests,
    group_names,
    move_idle,
    optimizer_groups,
    select_trainable,
)


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
        "tower": (1e-4, 0.1, 1),
        "tower (no decay)": (1e-4, 0.0, 1),
        "connector": (1e-3, 0.1, 1),
        "connector (no decay)": (1e-3, 0.0, 1),
        "text (no decay)": (1e-3, 0.0, 2),
    }


def test_a_rate_for_nothing_is_an_error(model):
    select_trainable(model, [r"tower\..*"])
    with pytest.raises(SemiHVError, match="connector"):
        optimizer_groups(model, 1e-3, {r"connector\..*": 1e-4}, weight_decay=0.0)


def test_groups_have_readable_names_and_each_another_one():
    patterns = {
        r"model\.connector\.(layers|query).*": "connector.layers-query",
        r".*(connector|vision_samplers)\..*": "connector-vision_samplers",
        r"model\.language_model\.layers\.\d+\.self_attn\..*": "language_model.layers.self_attn",
        r"model\.connector\..*": "connector_2",
        "model.connector.*": "connector_3",
        r"^(?:tower|text)[0-9]{1,2}\.\w+$": "tower-text",
        ".*": "all",
        ".+": "all_2",
    }
    assert group_names(patterns, {"connector"}) == patterns


def test_what_has_no_gradient_in_a_step_moves_on_as_it_does_where_the_model_is_sharded(model):
    """torch would skip it; ZeRO and FSDP give it a gradient of zero."""
    twin = copy.deepcopy(model)
    optimizers = [torch.optim.AdamW(each.parameters(), lr=0.1, weight_decay=0.1) for each in (model, twin)]
    optimizers[0].register_step_pre_hook(move_idle)
    for step in range(3):
        for each, optimizer in zip((model, twin), optimizers):
            optimizer.zero_grad(set_to_none=each is model)
            names = ["connector.weight"] if step == 1 else ["connector.weight", "tower.weight"]
            sum((step + 1) * each.get_parameter(name).pow(3).sum() for name in names).backward()
            optimizer.step()
    ours, theirs = model.state_dict(), twin.state_dict()
    assert all(ours[name].equal(theirs[name]) for name in ours)
    # What never had a gradient has no momentum, and stays.
    assert "norm.weight" in ours and model.norm.weight.grad is None
