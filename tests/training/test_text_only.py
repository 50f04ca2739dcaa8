"""The row that text-only batches get where other processes may have images: it changes neither loss nor gradients."""

import re

import pytest
import torch
from tiny_families import NAMES, make, row

from semihv_hf.training.collation import VisionCollator
from semihv_hf.training.text_only import TextOnlyCollator, needs_companion, trains_on_text

TEXT = [row("Is this a CT?", answer="No."), row("What plane is shown?", answer="Axial, no lesion.")]


@pytest.fixture(scope="module", params=NAMES)
def family(request, tiny_text_model):
    return make(request.param, tiny_text_model)


def collators(family, **options):
    plain = VisionCollator(family.processor, model_config=family.model.config, **options)
    return plain, TextOnlyCollator(plain, family.processor)


def loss_and_gradients(model, batch):
    model.zero_grad()
    labels = batch.pop("labels")
    hidden = model.base_model(**{"use_cache": False, **batch}).last_hidden_state
    logits = model.get_output_embeddings()(hidden)[:, :-1].float()
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    "options", [{}, {"assistant_only_loss": False}, {"packing": True}, {"packing": True, "assistant_only_loss": False}]
)
def test_loss_and_gradients_stay_and_every_vision_module_runs(family, options):
    if options.get("packing") and family.name == "gemma3":
        pytest.skip("rows of this model cannot be packed")
    family.model.requires_grad_(True)
    plain, guarded = collators(family, **options)
    expected, gradients = loss_and_gradients(family.model, plain(TEXT))
    with_image = guarded(TEXT)
    assert with_image["pixel_values"].numel() > 0
    loss, others = loss_and_gradients(family.model, with_image)
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-5)
    idle = [name for name, gradient in gradients.items() if gradient is None]
    assert idle  # without the row the vision modules take no part
    for name, gradient in gradients.items():
        if gradient is not None:
            scale = gradient.abs().max().clamp(min=1)
            torch.testing.assert_close(others[name] / scale, gradient / scale, atol=2e-5, rtol=1e-4, msg=name)
    joined = [name for name in idle if others[name] is not None]
    assert joined and all(float(others[name].abs().max()) < 1e-6 for name in joined)


def test_a_batch_with_an_image_is_left_alone(family, picture):
    plain, guarded = collators(family)
    rows = [*TEXT, row("image", "And this?", images=[picture(60, 40)])]
    expected, batch = plain(rows), guarded(rows)
    assert expected.keys() == batch.keys() and torch.equal(expected["input_ids"], batch["input_ids"])


def test_the_added_row_is_counted_among_computed_tokens_alone(family):
    plain, guarded = collators(family, report=True)
    alone, batch = plain(TEXT), guarded(TEXT)
    expected, report = alone["report"], batch["report"]
    assert (report.real_tokens, report.row_ids, report.images) == (expected.real_tokens, expected.row_ids, 0)
    assert report.computed_tokens == batch["input_ids"].numel() > alone["input_ids"].numel()


def test_batches_whose_images_all_fail_get_one_too(family):
    guarded = collators(family)[1]
    broken = row("image", "And this?", images=[{"bytes": b"no image", "path": None}], id="broken")
    batch = guarded([broken])
    assert batch["pixel_values"].numel() > 0 and bool((batch["labels"] == -100).all())


@pytest.mark.parametrize(
    ("strategy", "processes", "find_unused", "has_images", "expected"),
    [
        ("single", 1, True, True, False),
        ("zero3", 1, True, True, False),
        ("ddp", 2, True, True, False),
        ("ddp", 2, False, True, True),
        ("zero2", 2, True, True, True),
        ("zero3", 2, True, True, True),
        ("fsdp2", 2, True, True, True),
        ("zero3", 2, True, False, False),
    ],
)
def test_only_where_a_process_could_wait(strategy, processes, find_unused, has_images, expected):
    assert needs_companion(strategy, processes, find_unused, has_images) is expected
    assert needs_companion(strategy, processes, find_unused, has_images, text_trains=False) is has_images


def test_what_reads_text_is_told_from_what_reads_images(family):
    model = family.model.requires_grad_(False)
    assert not trains_on_text(model)
    connectors = [value for name, value in model.named_parameters() if re.search(r"projector|merger|connector", name)]
    samplers = [value for name, value in model.named_parameters() if "vision_samplers" in name]
    assert connectors and bool(samplers) is (family.name == "pmc_cambrian")
    for value in connectors + samplers:
        value.requires_grad_(True)
    assert not trains_on_text(model)
    next(model.get_decoder().layers[0].parameters()).requires_grad_(True)
    assert trains_on_text(model)
    model.requires_grad_(True)
