"""Weights that no checkpoint brings, and weights that nothing trains."""

import torch
from tiny_cambrian import small_towers_config

from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import PMCCambrianForConditionalGeneration


def with_aggregator(**changes):
    """The small configuration with other settings of the aggregator."""
    settings = small_towers_config().sva_config.to_diff_dict()
    return small_towers_config(sva_config={**settings, **changes})


def test_samplers_that_a_checkpoint_lacks_get_the_aggregators_own_initialisation(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        PMCCambrianForConditionalGeneration(with_aggregator(num_samplers=0)).save_pretrained(tmp_path)
        model = PMCCambrianForConditionalGeneration.from_pretrained(
            tmp_path, config=with_aggregator(initializer_range=0.2)
        )
    samplers = model.model.language_model.vision_samplers
    assert len(samplers) == 2
    for sampler in samplers:
        assert 0.18 < sampler.proj_in.weight.std() < 0.22
        assert 0.8 < torch.cat([position.flatten() for position in sampler.pos_embeds.parameters()]).std() < 1.2
        assert torch.equal(sampler.norm.weight, torch.ones_like(sampler.norm.weight))


def test_nothing_is_trained_in_vain_when_the_towers_are_trained():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PMCCambrianForConditionalGeneration(small_towers_config(freeze_vision_towers=False)).train()
        config = model.config
        pixels = {
            f"pixel_values{suffix}": torch.randn(1, 3, side, side)
            for suffix, side in (
                ("", config.siglip_config.image_size),
                ("_clip", config.clip_config.image_size),
                ("_dino", config.dino_config.image_size),
                ("_convnext", config.convnext_config.image_size),
            )
        }
    input_ids = torch.tensor([[10] + [config.image_token_id] * 20 + [11, 12]])  # 4 rows of 4 tokens and a newline
    model(input_ids=input_ids, labels=input_ids, image_sizes=torch.tensor([[50, 50]]), **pixels).loss.backward()
    waiting = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert waiting == []
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert sum("vision_towers" in name for name in trained) > 50
