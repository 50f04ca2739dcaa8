"""Auto classes and the pipeline: with this package, and from the checkpoint folder alone."""

import textwrap

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    pipeline,
)

import semihv_hf
from semihv_hf import (
    PMCCambrianConfig,
    PMCCambrianForConditionalGeneration,
    PMCCambrianImageProcessor,
    PMCCambrianImageProcessorPil,
    PMCCambrianModel,
    PMCCambrianProcessor,
)

# Refuses this package, so that everything must come from the checkpoint folder.
WITHOUT_THE_PACKAGE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "semihv_hf":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
"""


def conversation(image, text="Is this an axial MRI?"):
    return [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": text}]}]


@pytest.mark.parametrize(
    ("auto", "expected"),
    [
        (AutoConfig, PMCCambrianConfig),
        (AutoModel, PMCCambrianModel),
        (AutoModelForImageTextToText, PMCCambrianForConditionalGeneration),
        (AutoProcessor, PMCCambrianProcessor),
        (AutoImageProcessor, PMCCambrianImageProcessorPil),
    ],
)
def test_with_the_package_no_flag_is_needed_and_its_own_classes_are_used(auto, expected, tiny_checkpoint):
    # The flag does not replace the installed classes by the folder's copies either.
    for flag in ({}, {"trust_remote_code": True}):
        assert type(auto.from_pretrained(tiny_checkpoint, **flag)) is expected
    assert semihv_hf.__name__ in expected.__module__


def test_the_fast_image_processor_comes_on_request(tiny_checkpoint):
    assert (
        type(AutoImageProcessor.from_pretrained(tiny_checkpoint, backend="torchvision")) is PMCCambrianImageProcessor
    )


def test_the_tokenizer_knows_image_token_padding_and_template(tiny_checkpoint, tiny_processor):
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    assert tokenizer.image_token == "<filename>"
    assert tokenizer.padding_side == "left"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    text = "What plane is shown?<|im_end|>"
    assert tokenizer(text).input_ids == tiny_processor.tokenizer(text).input_ids


def test_the_base_model_gives_the_hidden_states_that_the_head_reads(
    tiny_checkpoint, tiny_model, tiny_processor, picture
):
    inputs = tiny_processor.apply_chat_template(
        conversation(picture(40, 30)), tokenize=True, return_dict=True, return_tensors="pt"
    )
    base = AutoModel.from_pretrained(tiny_checkpoint)
    with torch.no_grad():
        logits = tiny_model.lm_head(base(**inputs).last_hidden_state)
        assert torch.equal(logits, tiny_model(**inputs).logits)


def test_a_model_from_a_configuration_has_the_same_keys(tiny_checkpoint, tiny_model):
    config = AutoConfig.from_pretrained(tiny_checkpoint)
    with torch.random.fork_rng():
        made = AutoModelForImageTextToText.from_config(config)
    assert made.state_dict().keys() == tiny_model.state_dict().keys()
    assert not any(parameter.requires_grad for parameter in made.model.vision_towers.parameters())


def test_the_pipeline_answers_chats_with_images_one_by_one_and_in_a_batch(tiny_checkpoint, picture, greedy):
    pipe = pipeline("image-text-to-text", model=str(tiny_checkpoint), device="cpu")
    chats = [conversation(picture(60, 40, 1)), conversation(picture(33, 50, 2), "What plane?")]
    expected = [greedy(chat) for chat in chats]
    assert expected[0] != expected[1]
    options = {"max_new_tokens": 8, "return_full_text": False}
    assert [pipe(text=chat, **options)[0]["generated_text"] for chat in chats] == expected
    together = pipe(text=chats, batch_size=2, **options)
    assert [row[0]["generated_text"] for row in together] == expected
    text_only = [{"role": "user", "content": [{"type": "text", "text": "What plane is shown?"}]}]
    assert pipe(text=text_only, **options)[0]["generated_text"] == greedy(text_only)


def test_the_folder_alone_is_enough_with_the_flag_and_refused_without_it(
    tiny_checkpoint, tiny_model, tiny_processor, picture, greedy, run_python, tmp_path
):
    image = picture(40, 30)
    image.save(tmp_path / "image.png")
    inputs = tiny_processor.apply_chat_template(
        conversation(image), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    with torch.no_grad():
        torch.save({"inputs": dict(inputs), "logits": tiny_model(**inputs).logits}, tmp_path / "expected.pt")
    script = WITHOUT_THE_PACKAGE + textwrap.dedent("""
        import torch
        from PIL import Image
        from transformers import (
            AutoConfig, AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText,
            AutoProcessor, AutoTokenizer, pipeline,
        )

        folder, image = sys.argv[1], Image.open("image.png")
        refused = []
        for auto in (AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor, AutoImageProcessor):
            try:
                auto.from_pretrained(folder, trust_remote_code=False)
            except ValueError as error:
                assert "trust_remote_code=True" in str(error), error
                refused.append(auto.__name__)
        assert len(refused) == 5, refused
        try:
            AutoModelForImageTextToText.from_pretrained(folder)  # the library asks, and nobody answers
        except ValueError as error:
            assert "trust_remote_code=True" in str(error), error
        else:
            raise AssertionError("loaded without being trusted")

        trusted = {"trust_remote_code": True}
        names = {
            auto.__name__: type(auto.from_pretrained(folder, **trusted)).__name__
            for auto in (AutoConfig, AutoModel, AutoModelForCausalLM, AutoImageProcessor, AutoTokenizer)
        }
        assert names.pop("AutoTokenizer").startswith(("PreTrainedTokenizer", "Tokenizers")), names
        assert names == {
            "AutoConfig": "PMCCambrianConfig",
            "AutoModel": "PMCCambrianModel",
            "AutoModelForCausalLM": "PMCCambrianForConditionalGeneration",
            "AutoImageProcessor": "PMCCambrianImageProcessorPil",
        }, names
        model = AutoModelForImageTextToText.from_pretrained(folder, **trusted)
        processor = AutoProcessor.from_pretrained(folder, **trusted)
        messages = [{"role": "user", "content": [
            {"type": "image", "image": image}, {"type": "text", "text": "Is this an axial MRI?"}]}]
        inputs = processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")
        expected = torch.load("expected.pt")
        assert set(inputs) == set(expected["inputs"])
        assert all(torch.equal(inputs[key], expected["inputs"][key]) for key in inputs)
        with torch.no_grad():
            assert torch.equal(model(**inputs).logits, expected["logits"])
        assert not any(parameter.requires_grad for parameter in model.model.vision_towers.parameters())
        pipe = pipeline("image-text-to-text", model=folder, device="cpu", **trusted)
        print("ANSWER", repr(pipe(text=messages, max_new_tokens=8, return_full_text=False)[0]["generated_text"]))

        model.save_pretrained("again")  # what was loaded as remote code can be published again
        again = AutoModelForImageTextToText.from_pretrained("again", **trusted)
        with torch.no_grad():
            assert torch.equal(again(**inputs).logits, expected["logits"])
        assert not any(name.startswith("semihv_hf") for name in sys.modules)
    """)
    done = run_python(script, tiny_checkpoint, cwd=tmp_path, PYTHONPATH="", HF_MODULES_CACHE=str(tmp_path / "modules"))
    assert f"ANSWER {greedy(conversation(image))!r}" in done.stdout
