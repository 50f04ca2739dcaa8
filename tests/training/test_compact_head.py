"""The head that scores labelled positions only gives TRL's loss, gradients and metrics."""

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.utils import add_fused_lm_head

from semihv_hf.training.compact_head import score_labelled_positions

OUTPUTS = ("log_probs", "entropy", "is_top1")


@pytest.fixture
def pair():
    config = LlamaConfig(
        vocab_size=97, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, pad_token_id=0
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = LlamaForCausalLM(config)
    ours = copy.deepcopy(theirs)
    add_fused_lm_head(theirs, outputs=OUTPUTS)
    add_fused_lm_head(ours, outputs=OUTPUTS)
    score_labelled_positions(ours)
    return theirs, ours


def batch(labelled: bool = True):
    ids = torch.randint(1, 97, (3, 11), generator=torch.Generator().manual_seed(1))
    labels = torch.full_like(ids, -100)
    if labelled:
        labels[0, 4:6], labels[2, 9:] = ids[0, 4:6], ids[2, 9:]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def test_loss_gradients_and_metrics_are_equal(pair):
    results = []
    for model in pair:
        output = model(**batch(), fused_lm_head=True)
        output.loss.backward()
        results.append((output, {name: parameter.grad for name, parameter in model.named_parameters()}))
    (theirs, their_gradients), (ours, our_gradients) = results
    assert int(ours.label_mask.sum()) == 4
    for field in ("loss", "log_probs", "entropy", "is_top1", "label_mask"):
        torch.testing.assert_close(getattr(ours, field), getattr(theirs, field), atol=1e-6, rtol=1e-5)
    assert their_gradients.keys() == our_gradients.keys()
    for name, gradient in our_gradients.items():
        torch.testing.assert_close(gradient, their_gradients[name], atol=1e-6, rtol=1e-4, msg=name)


def test_a_batch_without_labels_still_runs_backward(pair):
    output = pair[1](**batch(labelled=False), fused_lm_head=True)
    assert float(output.loss) == 0.0
    output.loss.backward()


def test_the_plain_forward_is_left_alone(pair):
    plain = pair[1](**{key: value for key, value in batch().items() if key != "labels"})
    assert plain.logits.shape == (3, 11, 97)
    with_loss = pair[1](**batch())
    torch.testing.assert_close(with_loss.loss, pair[1](**batch(), fused_lm_head=True).loss)
