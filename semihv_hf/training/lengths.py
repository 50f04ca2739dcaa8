"""Lengths of conversations in tokens, image tokens included, without decoding any pixel."""

from __future__ import annotations

import io


def conversation_lengths(dataset, processor) -> list[int]:
    """
    Counts the tokens that each row will have.

    Args:
        dataset (`datasets.Dataset`): rows with `messages` and `images`.
        processor (`ProcessorMixin`): a processor with a chat template, `image_token` and `_get_num_multimodal_tokens`.

    Returns:
        `list[int]`: tokens of each row, as the processor would return them.
    """
    from datasets import Image, List
    from PIL import Image as PILImage
    from trl.data_utils import prepare_multimodal_messages

    # Undecoded, PIL reads the size from the header of a file.
    rows = dataset.select_columns(["messages", "images"]).cast_column("images", List(Image(decode=False)))
    texts, image_tokens = [], []
    for row in rows:
        sizes = []
        for image in row["images"] or []:
            source = io.BytesIO(image["bytes"]) if image["bytes"] is not None else image["path"]
            with PILImage.open(source) as opened:
                sizes.append((opened.height, opened.width))
        messages = prepare_multimodal_messages(row["messages"], images=[None] * len(sizes))
        texts.append(processor.apply_chat_template(messages, tokenize=False))
        image_tokens.append(
            processor._get_num_multimodal_tokens(image_sizes=sizes)["num_image_tokens"] if sizes else []
        )
    ids = processor.tokenizer(texts, add_special_tokens=False)["input_ids"]
    # The rendered text holds one placeholder for each image.
    return [len(row) + sum(tokens) - len(tokens) for row, tokens in zip(ids, image_tokens)]
