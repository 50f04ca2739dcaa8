"""What `generate` is handed from before, a cache, features or drafts, changes no answer and is left as it was."""

import copy

import pytest
import torch
from generation_cases import NEW_TOKENS, VISION_KEYS, mixed_conversations, picture, user
from transformers import LlamaForCausalLM

IMAGE_TOKEN = 6


@pytest.fixture(scope="module")
def conversations():
    return mixed_conversations()


@pytest.fixture(scope="module")
def alone(cases, conversations):
    """The greedy answers to each conversation alone."""
    return cases.one_by_one(conversations)


def assistant(model, kind: str) -> LlamaForCausalLM:
    """A text-only assistant: of random weights, of the model's own weights, or one that drafts nothing but images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        llama = LlamaForCausalLM(copy.deepcopy(model.config.text_config)).eval()
    if kind == "the model's text weights":
        ours = {name.removeprefix("model.language_model."): value for name, value in model.state_dict().items()}
        missing, _ = llama.model.load_state_dict(ours, strict=False)
        assert missing == []
        llama.lm_head.load_state_dict(model.lm_head.state_dict())
    elif kind == "image tokens only":
        with torch.no_grad():
            for parameter in llama.parameters():
                parameter.zero_()
            llama.model.embed_tokens.weight.fill_(1.0)
            llama.model.norm.weight.fill_(1.0)
            llama.lm_head.weight[IMAGE_TOKEN] = 1.0
    return llama


@pytest.mark.parametrize(
    "kind", ["random weights", "the model's text weights", "image tokens only", "the model itself"]
)
def test_assisted_decoding_answers_as_greedy_search(kind, cases, conversations, alone):
    helper = cases.model if kind == "the model itself" else assistant(cases.model, kind)
    assert cases.one_by_one(conversations, assistant_model=helper) == alone


class Lengths:
    """Counts the tokens of each call of the language model, as long as it is open."""

    def __init__(self, model):
        self.seen: list[int] = []
        language_model = model.model.language_model
        self.handle = language_model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module, args, kwargs):
        self.seen.append(kwargs["inputs_embeds"].shape[1])

    def __enter__(self):
        return self.seen

    def __exit__(self, *_):
        self.handle.remove()


def test_a_text_only_assistant_of_the_same_weights_drafts_what_is_kept(cases, conversations):
    """Otherwise the test above would hold for drafts that are always thrown away."""
    helper = assistant(cases.model, "the model's text weights")
    with Lengths(cases.model) as calls:
        cases.answers(cases.encode([conversations[2]]), assistant_model=helper)
    assert len(calls) < NEW_TOKENS


@pytest.mark.parametrize("tokens", [1, 10])
def test_prompt_lookup_answers_as_greedy_search(tokens, cases, conversations, alone):
    # The last tokens of this prompt stand before an image, too: the first draft found in it is of image tokens.
    repeated = user("plane", picture(50, 50, 5), "What? plane")
    mix = [*conversations, repeated]
    ids = cases.encode([conversations[0]])["input_ids"][0].tolist()
    assert ids[ids.index(IMAGE_TOKEN) - 1] == ids[-1]
    assert cases.one_by_one(mix, prompt_lookup_num_tokens=tokens) == [*alone, *cases.one_by_one([repeated])]


def test_a_draft_holds_no_image_token_but_an_answer_may(cases, conversations):
    """The model's own choice is not changed: here it answers image tokens, with drafts and without."""
    model = copy.deepcopy(cases.model)
    others = type(cases)(model, cases.processor)
    with torch.no_grad():
        likely = others.generate(others.encode([conversations[0]])).sequences[0, -NEW_TOKENS]
        model.lm_head.weight[IMAGE_TOKEN] = model.lm_head.weight[likely] * 1.5
    expected = others.one_by_one(conversations)
    assert any(IMAGE_TOKEN in answer for answer in expected)
    assert others.one_by_one(conversations, prompt_lookup_num_tokens=4) == expected


def features_of(cases, inputs):
    with torch.no_grad():
        return cases.model.model.get_image_features(**{key: inputs[key] for key in VISION_KEYS})


def tensors_of(output) -> list[torch.Tensor]:
    return [tensor for field in (output.pooler_output, *output.deepstack_features) for tensor in field]


def test_features_computed_before_answer_as_pixels_and_can_be_used_again(cases, conversations):
    inputs = cases.encode(conversations)
    text = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    features = features_of(cases, inputs)
    before = [tensor.clone() for tensor in tensors_of(features)]
    searches = [{}, {"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}, {"prefill_chunk_size": 9}, {}]
    for change in searches:
        again = cases.answers({**text, "mm_encoder_outputs": {"image": features}}, **change)
        assert again == cases.answers(inputs, **change), change
    after = tensors_of(features)
    assert len(after) == len(before) and all(torch.equal(*pair) for pair in zip(before, after))


def test_one_image_answers_several_questions_from_one_run_of_the_towers(cases):
    questions = ["What plane is shown?", "Is this an axial MRI?", "Describe the image."]
    image = picture(60, 40, 8)
    singles = [cases.encode([user(image, question)]) for question in questions]
    once = features_of(cases, singles[0])
    several = type(once)(
        pooler_output=once.pooler_output * 3, deepstack_features=[field * 3 for field in once.deepstack_features]
    )
    batch = cases.encode([user(image, question) for question in questions])
    text = {key: batch[key] for key in ("input_ids", "attention_mask")}
    together = cases.answers({**text, "mm_encoder_outputs": {"image": several}})
    assert together == [cases.answers(single)[0] for single in singles]


def test_features_and_pixels_together_are_refused(cases, conversations):
    inputs = cases.encode([conversations[0]])
    with pytest.raises(ValueError, match="both"):
        cases.generate({**inputs, "mm_encoder_outputs": {"image": features_of(cases, inputs)}})


@pytest.mark.parametrize("chunk", [None, 9])
def test_features_of_too_few_or_too_many_images_are_refused(chunk, cases, conversations):
    inputs = cases.encode([conversations[1]])
    pixels = {key: inputs[key] for key in VISION_KEYS}
    fewer = {**inputs, **{key: value[:1] for key, value in pixels.items()}}
    more = {**inputs, **{key: torch.cat([value, value[:1]]) for key, value in pixels.items()}}
    for wrong in (fewer, more):
        with pytest.raises(ValueError, match="Image features and image tokens do not match, tokens: 32, features: "):
            cases.generate(wrong, prefill_chunk_size=chunk)


class Chat:
    """A first turn that was answered, and a second one behind it."""

    def __init__(self, cases, first, second_parts):
        self.cases = cases
        self.first = cases.encode([first])
        turn = user(*second_parts)
        images = [part for part in second_parts if not isinstance(part, str)]
        text = "<|im_end|>\n" + cases.processor.apply_chat_template(turn, add_generation_prompt=True)
        self.second = cases.processor(text=[text], images=images or None, return_tensors="pt")
        self.ids = torch.cat([self.answered().sequences, self.second["input_ids"]], dim=1)
        pixels = [{key: turn[key] for key in VISION_KEYS if key in turn} for turn in (self.first, self.second)]
        self.new_pixels = pixels[1]
        self.all_pixels = {
            key: torch.cat([turn[key] for turn in pixels if key in turn]) for key in {**pixels[0], **pixels[1]}
        }

    def answered(self):
        return self.cases.generate(self.first)

    def inputs(self, ids, pixels):
        return {"input_ids": ids, "attention_mask": torch.ones_like(self.ids), **pixels}


SECOND_TURNS = {"a new image": (picture(30, 70, 9), "Is it an MRI?"), "no new image": ("Is it an MRI?",)}


@pytest.fixture(scope="module", params=[(0, "a new image"), (0, "no new image"), (2, "a new image")], ids=str)
def chat(request, cases, conversations):
    first, second = request.param
    return Chat(cases, conversations[first], SECOND_TURNS[second])


@pytest.mark.parametrize("chunk", [None, 9], ids="chunks of {}".format)
@pytest.mark.parametrize("given", ["the new images", "all images", "the new tokens"])
def test_a_kept_cache_goes_on_as_the_whole_conversation(given, chunk, chat, cases):
    whole = cases.generate(chat.inputs(chat.ids, chat.all_pixels))
    cache = chat.answered().past_key_values
    ids = chat.ids[:, cache.get_seq_length() :] if given == "the new tokens" else chat.ids
    pixels = chat.all_pixels if given == "all images" else chat.new_pixels
    going_on = cases.generate(chat.inputs(ids, pixels), past_key_values=cache, prefill_chunk_size=chunk)
    assert torch.equal(going_on.sequences[:, -NEW_TOKENS:], whole.sequences[:, -NEW_TOKENS:])
    for one, other in zip(going_on.logits, whole.logits):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_a_kept_cache_saves_running_the_first_turn_again(chat, cases):
    cache = chat.answered().past_key_values
    new = chat.ids.shape[1] - cache.get_seq_length()
    with Lengths(cases.model) as calls:
        cases.generate(chat.inputs(chat.ids, chat.all_pixels), past_key_values=cache)
    assert calls == [new] + [1] * (NEW_TOKENS - 1)
    assert new < chat.ids.shape[1]


def test_beams_go_on_from_a_kept_cache(chat, cases):
    whole = cases.answers(chat.inputs(chat.ids, chat.all_pixels), num_beams=3)
    cache = chat.answered().past_key_values
    cache.batch_repeat_interleave(3)
    assert cases.answers(chat.inputs(chat.ids, chat.all_pixels), num_beams=3, past_key_values=cache) == whole


def test_assisted_decoding_from_a_kept_cache_is_right_or_refused(chat, cases):
    """The library would run the whole prompt behind the cache again, and answer something else."""
    whole = cases.answers(chat.inputs(chat.ids, chat.all_pixels))
    cache = chat.answered().past_key_values
    with pytest.raises(ValueError, match="pass the new tokens only"):
        cases.generate(chat.inputs(chat.ids, chat.all_pixels), past_key_values=cache, prompt_lookup_num_tokens=3)
    cache = chat.answered().past_key_values
    new = chat.inputs(chat.ids[:, cache.get_seq_length() :], chat.new_pixels)
    assert cases.answers(new, past_key_values=cache, prompt_lookup_num_tokens=3) == whole
