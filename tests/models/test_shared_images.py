"""Many questions about the same images: each image is encoded once, and the answers are those of separate calls."""

import pytest
import torch
from tiny_cambrian import small_towers_config

from semihv_hf.errors import SemiHVError
from semihv_hf.models.assemble import build_processor
from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import PMCCambrianForConditionalGeneration
from semihv_hf.models.shared_images import repeat_image_features, share_image_features

TOWERS = {"siglip": {"size": 32}, "clip": {"size": 32}, "dino": {"size": 28}, "convnext": {"size": 48}}
QUESTIONS = ["Is it an MRI?", "What plane is shown in this image of the head?", "Why?"]


@pytest.fixture(scope="module")
def processor(tokenizer_dirs):
    return build_processor(tokenizer_dirs["llama3"], TOWERS, 4)


@pytest.fixture(scope="module")
def model(processor):
    config = small_towers_config(image_token_id=processor.image_token_id)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PMCCambrianForConditionalGeneration(config).eval()
        # Weights large enough that image and question decide the answer.
        for parameter in model.parameters():
            parameter.data.normal_(std=0.3)
    return model


def ask(question: str, *images, before: str | None = None) -> list[dict]:
    content = [{"type": "image", "image": image} for image in images] + [{"type": "text", "text": question}]
    if before is not None:
        content.insert(0, {"type": "text", "text": before})
    return [{"role": "user", "content": content}]


def generate(model, inputs) -> torch.Tensor:
    with torch.inference_mode():
        sequences = model.generate(
            **inputs, do_sample=False, max_new_tokens=6, min_new_tokens=6, pad_token_id=2, eos_token_id=1
        )
    return sequences[:, inputs["input_ids"].shape[1] :]


def separately(model, processor, conversations) -> torch.Tensor:
    answers = []
    for conversation in conversations:
        inputs = processor.apply_chat_template(
            [conversation], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        answers.append(generate(model, inputs))
    return torch.cat(answers)


@pytest.fixture()
def encoded(model) -> list[int]:
    """How many images each pass through the first tower has had."""
    counts = []
    handle = model.model.vision_towers.siglip.register_forward_hook(
        lambda module, arguments, output: counts.append(len(output.last_hidden_state))
    )
    yield counts
    handle.remove()


@pytest.mark.parametrize("share_prefix", [False, True])
def test_questions_about_one_image_are_answered_as_separately_and_it_is_encoded_once(
    model, processor, picture, encoded, share_prefix
):
    image = picture(60, 40)
    conversations = [ask(question, image) for question in QUESTIONS]
    expected = separately(model, processor, conversations)
    assert len({tuple(row) for row in expected.tolist()}) == len(QUESTIONS)
    encoded.clear()
    inputs = share_image_features(model, processor, conversations, share_prefix=share_prefix)
    assert torch.equal(generate(model, inputs), expected)
    assert encoded == [1]


@pytest.mark.parametrize("share_prefix", [False, True])
def test_several_images_each_are_shared(model, processor, picture, encoded, share_prefix):
    first, second = picture(60, 40, seed=1), picture(30, 70, seed=2)
    conversations = [ask(question, first, second) for question in QUESTIONS]
    expected = separately(model, processor, conversations)
    encoded.clear()
    inputs = share_image_features(model, processor, conversations, share_prefix=share_prefix)
    assert torch.equal(generate(model, inputs), expected)
    assert encoded == [2]


def test_different_images_repeated_images_and_text_only_may_be_mixed(model, processor, picture, encoded):
    first, second = picture(60, 40, seed=1), picture(30, 70, seed=2)
    conversations = [
        ask(QUESTIONS[0], first),
        ask(QUESTIONS[1], second, first),
        ask(QUESTIONS[2]),
        ask(QUESTIONS[2], second),
    ]
    expected = separately(model, processor, conversations)
    encoded.clear()
    assert torch.equal(generate(model, share_image_features(model, processor, conversations)), expected)
    assert encoded == [2]


def test_equal_paths_are_one_image(model, processor, picture, encoded, tmp_path):
    path = tmp_path / "image.png"
    picture(60, 40).save(path)
    inputs = share_image_features(model, processor, [ask(question, str(path)) for question in QUESTIONS])
    assert encoded == [1]
    assert torch.equal(
        generate(model, inputs),
        separately(model, processor, [ask(question, picture(60, 40)) for question in QUESTIONS]),
    )


@pytest.mark.parametrize("share_prefix", [False, True])
def test_without_images_there_are_no_features(model, processor, share_prefix):
    conversations = [ask(question) for question in QUESTIONS]
    inputs = share_image_features(model, processor, conversations, share_prefix=share_prefix)
    assert "mm_encoder_outputs" not in inputs
    assert torch.equal(generate(model, inputs), separately(model, processor, conversations))


def test_beams_and_several_answers_work_and_leave_the_features_as_they_were(model, processor, picture):
    conversations = [ask(question, picture(60, 40)) for question in QUESTIONS]
    inputs = share_image_features(model, processor, conversations)
    options = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 5, "do_sample": False, "pad_token_id": 2}
    with torch.inference_mode():
        first = model.generate(**inputs, **options)
        again = model.generate(**inputs, **options)
    assert len(first) == 2 * len(QUESTIONS)
    assert torch.equal(first, again)


def test_texts_that_differ_before_the_image_are_answered_all_the_same(model, processor, picture, encoded):
    image = picture(60, 40)
    conversations = [ask("Is it an MRI?", image, before=text) for text in ("Look:", "This is new.")]
    expected = separately(model, processor, conversations)
    encoded.clear()
    inputs = share_image_features(model, processor, conversations, share_prefix=True)
    assert "past_key_values" not in inputs
    assert torch.equal(generate(model, inputs), expected)
    assert encoded == [1]


def test_the_shared_prefix_is_as_long_as_it_can_be(model, processor, picture):
    conversations = [ask(question, picture(60, 40, seed=3)) for question in ("Is it an MRI?", "Is it an axial one?")]
    image = conversations[0][0]["content"][0]["image"]
    conversations[1][0]["content"][0]["image"] = image
    inputs = share_image_features(model, processor, conversations, share_prefix=True)
    held = inputs["past_key_values"].get_seq_length()
    columns = (inputs["input_ids"] == inputs["input_ids"][0]).all(dim=0)
    # up to the shared "Is it an", behind which the shorter row is padded
    assert columns[:held].all() and inputs["attention_mask"][:, :held].all()
    assert not columns[held] or not inputs["attention_mask"][:, held].all()
    assert held > int((inputs["input_ids"][0] == processor.image_token_id).sum())


def test_options_reach_the_chat_template(model, processor, picture):
    conversations = [ask(question, picture(20, 20)) for question in QUESTIONS]
    plain = share_image_features(model, processor, conversations)
    told = share_image_features(model, processor, conversations, system_prompt="You see an image.")
    assert told["input_ids"].shape[1] > plain["input_ids"].shape[1]


def test_different_images_have_no_common_prefix(model, processor, picture):
    conversations = [ask("Why?", picture(20, 20, seed=seed)) for seed in (1, 2)]
    with pytest.raises(SemiHVError, match="different images"):
        share_image_features(model, processor, conversations, share_prefix=True)


def test_an_image_token_in_a_text_raises(model, processor, picture):
    with pytest.raises(SemiHVError, match="1 images, but 2 image tokens"):
        share_image_features(model, processor, [ask(f"What is {processor.image_token}?", picture(20, 20))])


def test_no_conversation_raises(model, processor):
    with pytest.raises(SemiHVError, match="no conversation"):
        share_image_features(model, processor, [])


def test_features_are_repeated_without_copies(model, processor, picture):
    pixels = processor.image_processor([picture(60, 40), picture(30, 70)], return_tensors="pt")
    with torch.inference_mode():
        features = model.get_image_features(**pixels)
    repeated = repeat_image_features(features, [1, 0, 1])
    assert [tokens.data_ptr() for tokens in repeated.pooler_output] == [
        features.pooler_output[index].data_ptr() for index in (1, 0, 1)
    ]
    assert [len(field) for field in repeated.deepstack_features] == [3, 3, 3]
