"""A tiny checkpoint with all four towers, saved as a real one is: weights, processor, chat template and code."""

import sys
from pathlib import Path

import pytest
import torch

MODELS = Path(__file__).parents[1] / "models"
if str(MODELS) not in sys.path:
    sys.path.insert(0, str(MODELS))  # tiny_cambrian

TOWERS = {"siglip": {"size": 32}, "clip": {"size": 32}, "dino": {"size": 28}, "convnext": {"size": 48}}


@pytest.fixture(scope="session")
def tiny_processor(tiny_text_model):
    """The processor of `tiny_model`: four small towers, a 4x4 query grid, ChatML."""
    from semihv_hf.models.assemble import build_processor

    return build_processor(tiny_text_model, TOWERS, 4, chat_template="chatml")


@pytest.fixture(scope="session")
def new_model(tiny_processor):
    """Makes a model whose answers depend on the image, always with the same weights: `new_model(**config_changes)`."""
    from tiny_cambrian import small_towers_config

    from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import PMCCambrianForConditionalGeneration

    def make(**changes):
        config = small_towers_config(**changes)
        config.image_token_id = tiny_processor.image_token_id
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = PMCCambrianForConditionalGeneration(config).eval()
            for name, parameter in model.named_parameters():
                # The towers keep their own initialisation; elsewhere weights as large as trained ones.
                if parameter.ndim > 1 and "vision_towers" not in name:
                    torch.nn.init.normal_(parameter, std=0.3)
        tokenizer = tiny_processor.tokenizer
        model.generation_config.update(
            do_sample=False,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        return model

    return make


@pytest.fixture(scope="session")
def tiny_model(new_model):
    """The model of `tiny_checkpoint`; tests do not change it."""
    return new_model()


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory, tiny_model, tiny_processor) -> Path:
    """The folder of a checkpoint."""
    from semihv_hf.models.export import save_checkpoint

    return save_checkpoint(tiny_model, tiny_processor, tmp_path_factory.mktemp("contract") / "tiny-cambrian")


@pytest.fixture(scope="session")
def greedy(tiny_model, tiny_processor):
    """The model's own answer: `greedy(messages, max_new_tokens=8)`."""

    def answer(messages: list[dict], max_new_tokens: int = 8) -> str:
        inputs = tiny_processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        output = tiny_model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        return tiny_processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    return answer
