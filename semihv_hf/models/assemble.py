# Copyright 2026 The semihv-hf authors. Licensed under the Apache License, Version 2.0.
"""Put a processor together from a text tokenizer and the vision towers of a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from semihv_hf.errors import SemiHVError

if TYPE_CHECKING:
    from semihv_hf.models.pmc_cambrian.processing_pmc_cambrian import PMCCambrianProcessor

TEMPLATE_FILES = {"llama3": "chat_template.jinja", "chatml": "chat_template_chatml.jinja"}

# Special tokens that a text model's vocabulary has, but that its conversations never use, best first. Reusing one
# keeps the embedding and the head at the size of the checkpoint.
IMAGE_TOKEN_CANDIDATES = {
    "llama3": ("<|reserved_special_token_1|>",),
    "chatml": ("<filename>", "<file_sep>", "<repo_name>", "<reponame>", "<gh_stars>", "<empty_output>"),
}

# A pad token that differs from every end-of-turn token: masking labels by the pad id then never hides an end of turn.
PAD_TOKEN_CANDIDATES = {
    "llama3": ("<|reserved_special_token_0|>", "<|finetune_right_pad_id|>"),
    "chatml": ("<|endoftext|>",),
}

NEEDED_TOKENS = {
    "llama3": ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "chatml": ("<|im_start|>", "<|im_end|>"),
}


def read_chat_template(name: str) -> str:
    """
    Read one of the chat templates that are published with the model.

    Args:
        name (`str`): `llama3` or `chatml`.

    Returns:
        `str`: the Jinja text.

    Raises:
        `SemiHVError`: for any other name.
    """
    if name not in TEMPLATE_FILES:
        raise SemiHVError(f"Unknown chat template {name!r}.", f"Use one of: {', '.join(TEMPLATE_FILES)}.")
    return (Path(__file__).parent / "pmc_cambrian" / TEMPLATE_FILES[name]).read_text(encoding="utf-8")


def first_in_vocabulary(candidates: tuple[str, ...], vocabulary: dict, what: str, source: str) -> str:
    """The first candidate that is a token of the vocabulary; `SemiHVError` if there is none."""
    for token in candidates:
        if token in vocabulary:
            return token
    raise SemiHVError(
        f"The tokenizer {source} has none of the tokens {', '.join(candidates)} to use as {what}.",
        "Name one with image_token." if what == "image token" else "Take a tokenizer of the template's model family.",
    )


def build_processor(
    tokenizer_dir_or_id: str | os.PathLike,
    towers: dict[str, dict] | None = None,
    query_side: int = 24,
    *,
    chat_template: str = "llama3",
    image_token: str | None = None,
) -> PMCCambrianProcessor:
    """
    Build a processor on a text model's tokenizer, without growing its vocabulary.

    Args:
        tokenizer_dir_or_id (`str` or `os.PathLike`): folder or Hub id of the text model or its tokenizer.
        towers (`dict[str, dict]`, *optional*): the towers that are present and what differs from the 8B model, such as
            `{"siglip": {"size": 64}}`; all four 8B towers by default.
        query_side (`int`, *optional*, defaults to 24): side of the model's query grid.
        chat_template (`str`, *optional*, defaults to `"llama3"`): `llama3` or `chatml`.
        image_token (`str`, *optional*): placeholder of an image; by default a reserved token that the text model
            never uses (`<|reserved_special_token_1|>` for Llama 3, `<filename>` for SmolLM2).

    Returns:
        [`PMCCambrianProcessor`]: with the exact image backend, a pad token of its own and padding on the left.

    Raises:
        `SemiHVError`: for an unknown template, or a tokenizer that lacks the tokens it needs.
    """
    from transformers import AutoTokenizer

    from semihv_hf.models.pmc_cambrian.image_processing_pil_pmc_cambrian import PMCCambrianImageProcessorPil
    from semihv_hf.models.pmc_cambrian.processing_pmc_cambrian import PMCCambrianProcessor

    template = read_chat_template(chat_template)
    source = str(tokenizer_dir_or_id)
    vocabulary = AutoTokenizer.from_pretrained(source).get_vocab()
    missing = [token for token in NEEDED_TOKENS[chat_template] if token not in vocabulary]
    if missing:
        raise SemiHVError(
            f"The tokenizer {source} lacks {missing[0]}, which the {chat_template} template writes.",
            f"Use another of the templates: {', '.join(TEMPLATE_FILES)}.",
        )
    candidates = (image_token,) if image_token else IMAGE_TOKEN_CANDIDATES[chat_template]
    image_token = first_in_vocabulary(candidates, vocabulary, "image token", source)
    pad_token = first_in_vocabulary(PAD_TOKEN_CANDIDATES[chat_template], vocabulary, "pad token", source)
    tokenizer = AutoTokenizer.from_pretrained(
        source,
        pad_token=pad_token,
        padding_side="left",
        extra_special_tokens={"image_token": image_token},
        clean_up_tokenization_spaces=False,  # meant for WordPiece; it would eat blanks before punctuation
    )
    tokenizer.chat_template = template
    image_processor = PMCCambrianImageProcessorPil() if towers is None else PMCCambrianImageProcessorPil(towers=towers)
    return PMCCambrianProcessor(image_processor, tokenizer, chat_template=template, query_side=query_side)
