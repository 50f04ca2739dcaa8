"""The two chat templates, pinned."""

import pytest
from jinja2.exceptions import TemplateError

from semihv_hf.errors import SemiHVError
from semihv_hf.models.assemble import read_chat_template

IMAGE = {"llama3": "<|reserved_special_token_1|>", "chatml": "<filename>"}
CONVERSATION = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What modality is this?"}]},
    {"role": "assistant", "content": "An MRI."},
    {"role": "user", "content": "Which plane?"},
    {"role": "assistant", "content": [{"type": "text", "text": "Axial."}]},
]
PINNED = {
    "llama3": (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|><|reserved_special_token_1|>\nWhat modality is this?"
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>An MRI.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>Which plane?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>Axial.<|eot_id|>"
    ),
    "chatml": (
        "<|im_start|>user\n<filename>\nWhat modality is this?<|im_end|>\n"
        "<|im_start|>assistant\nAn MRI.<|im_end|>\n"
        "<|im_start|>user\nWhich plane?<|im_end|>\n"
        "<|im_start|>assistant\nAxial.<|im_end|>\n"
    ),
}
TURN = {
    "llama3": "<|start_header_id|>{role}<|end_header_id|>{text}<|eot_id|>",
    "chatml": "<|im_start|>{role}\n{text}<|im_end|>\n",
}
START = {"llama3": "<|begin_of_text|>", "chatml": ""}
PROMPT = {"llama3": "<|start_header_id|>assistant<|end_header_id|>", "chatml": "<|im_start|>assistant\n"}


def turn(family: str, role: str, text: str) -> str:
    return TURN[family].format(role=role, text=text)


def test_conversation_is_pinned(processor, family):
    assert processor.apply_chat_template(CONVERSATION) == PINNED[family]


def test_defect_b15_the_tokenizer_has_the_training_form_too(processor, family):
    assert processor.tokenizer.chat_template == processor.chat_template == read_chat_template(family)
    text_only = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    assert processor.tokenizer.apply_chat_template(text_only, tokenize=False) == processor.apply_chat_template(
        text_only
    )


def test_defect_b14_prompt_and_conversation_begin_alike(processor, family):
    prompt = processor.apply_chat_template(CONVERSATION[:3], add_generation_prompt=True)
    assert prompt.endswith(PROMPT[family])
    assert PINNED[family].startswith(prompt)


def test_no_default_system_turn(processor, family):
    rendered = processor.apply_chat_template([{"role": "user", "content": "Hello"}])
    assert rendered == START[family] + turn(family, "user", "Hello")


def test_system_text_is_kept_to_the_letter(processor, family):
    system = "  You read images. \n\n  Be brief. "
    user = {"role": "user", "content": "Hello"}
    expected = START[family] + turn(family, "system", system) + turn(family, "user", "Hello")
    assert processor.apply_chat_template([{"role": "system", "content": system}, user]) == expected
    assert processor.apply_chat_template([user], system_prompt=system) == expected


def test_two_system_texts_raise(processor):
    messages = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    with pytest.raises(TemplateError, match="not both"):
        processor.apply_chat_template(messages, system_prompt="c")


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["I"], "{I}"),
        (["I", "a"], "{I}\na"),
        (["a", "I"], "a\n{I}"),
        (["I", "I", "a"], "{I}\n{I}\na"),
        (["a", "I", "b", "I"], "a\n{I}\nb\n{I}"),
        (["a", "b"], "ab"),
    ],
)
def test_images_keep_their_position(processor, family, parts, expected):
    content = [{"type": "image"} if part == "I" else {"type": "text", "text": part} for part in parts]
    for role in ("user", "system"):
        rendered = processor.apply_chat_template([{"role": role, "content": content}])
        assert rendered == START[family] + turn(family, role, expected.replace("{I}", IMAGE[family]))


def test_an_image_in_a_later_turn(processor, family):
    messages = [*CONVERSATION[:2], {"role": "user", "content": CONVERSATION[0]["content"]}]
    rendered = processor.apply_chat_template(messages)
    assert rendered.endswith(turn(family, "user", f"{IMAGE[family]}\nWhat modality is this?"))
    assert rendered.count(IMAGE[family]) == 2


def test_a_started_answer_is_continued(processor, family):
    rendered = processor.apply_chat_template(CONVERSATION, continue_final_message=True)
    assert rendered == PINNED[family][: PINNED[family].rindex("Axial.") + len("Axial.")]


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"role": "tool", "content": "x"}, "Unknown role tool"),
        ({"role": "assistant", "content": [{"type": "image"}]}, "assistant turn cannot hold an image"),
        ({"role": "user", "content": [{"type": "video"}]}, "Unknown content type video"),
        ({"role": "user"}, "no content"),
    ],
)
def test_what_the_template_does_not_know_raises(processor, message, named):
    with pytest.raises(TemplateError, match=named):
        processor.apply_chat_template([message])


def test_generation_block_is_answer_and_end_of_turn(processor, family):
    encoded = processor.apply_chat_template(
        CONVERSATION[2:], tokenize=True, return_dict=True, return_assistant_tokens_mask=True, return_tensors="pt"
    )
    answer = processor.tokenizer.decode(encoded["input_ids"][0][encoded["assistant_masks"][0].bool()])
    assert answer == {"llama3": "Axial.<|eot_id|>", "chatml": "Axial.<|im_end|>"}[family]


def test_unknown_template_name_raises():
    with pytest.raises(SemiHVError, match="vicuna"):
        read_chat_template("vicuna")
