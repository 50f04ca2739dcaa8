"""Tiny random models and processors of several families of image-text models, made without any download."""

import io
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch

CHATML = """{%- for message in messages -%}
    {{- '<|im_start|>' + message['role'] + '\\n' -}}
    {%- if message['role'] == 'assistant' -%}
        {%- generation -%}{%- for part in message['content'] -%}{{- part['text'] -}}{%- endfor -%}{{- '<|im_end|>' -}}{%- endgeneration -%}
    {%- else -%}
        {%- for part in message['content'] -%}
            {%- if part['type'] == 'image' -%}{{- '<image>' -}}{%- else -%}{{- part['text'] -}}{%- endif -%}
        {%- endfor -%}{{- '<|im_end|>\\n' -}}
    {%- endif -%}
{%- endfor -%}"""  # noqa: E501

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
SIGLIP = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


@dataclass
class Family:
    name: str
    processor: object
    model: object


def tokenizer_with(special: list[str], **named):
    """A byte-level tokenizer with merges of newlines, so that text beside an image may join with what surrounds it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=["<pad>", "<unk>", *special],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    text = ["Is this an axial MRI?\n\nNo.\n\n\nYes.\n", "user\n\n\n\nmodel\nWhat plane is shown?\n\n"] * 4
    tokenizer.train_from_iterator(text, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", extra_special_tokens=named
    )


def trl_template(name: str) -> str:
    return (files("trl") / "chat_templates" / f"{name}.jinja").read_text()


def _seeded(model_class, config):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config).eval()
        # As initialised the model hardly reads its context: with large weights a leak between rows shows.
        for parameter in model.parameters():
            if parameter.ndim > 1 and parameter.std() == 0:
                parameter.data.normal_(std=0.1)  # Gemma 3 starts its projection at 0
            elif parameter.ndim > 1:
                parameter.data.mul_(6 if parameter.std() < 0.1 else 1)
    return model


def llava() -> Family:
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = tokenizer_with(["<|im_start|>", "<|im_end|>", "<image>"], image_token="<image>")
    side = {"height": 32, "width": 32}
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=side),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHATML,
    )
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **SIGLIP, "image_size": 32, "patch_size": 8},
        text_config={"model_type": "llama", **TEXT, "vocab_size": len(tokenizer), "pad_token_id": 0},
        image_token_index=processor.image_token_id,
        image_seq_length=16,
    )
    return Family("llava", processor, _seeded(LlavaForConditionalGeneration, config))


def qwen(kind: str) -> Family:
    import transformers
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    prefix = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL"}[kind]
    special = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = tokenizer_with(special)
    processor = getattr(transformers, f"{prefix}Processor")(
        Qwen2VLImageProcessorPil(
            patch_size=4, merge_size=2, size={"shortest_edge": 8 * 8 * 4, "longest_edge": 8 * 8 * 40}
        ),
        tokenizer,
        Qwen2VLVideoProcessor(),
        chat_template=trl_template("qwen2_5_vl_training"),
    )
    vision = {
        "qwen2_vl": {"embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2},
        "qwen2_5_vl": {
            "hidden_size": 16,
            "out_hidden_size": 32,
            "intermediate_size": 24,
            "window_size": 16,
            "fullatt_block_indexes": [1],
        },
    }[kind]
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in special}
    config = getattr(transformers, f"{prefix}Config")(
        vision_config={"depth": 2, "num_heads": 2, "patch_size": 4, **vision},
        text_config={
            **TEXT,
            "vocab_size": len(tokenizer),
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    return Family(kind, processor, _seeded(getattr(transformers, f"{prefix}ForConditionalGeneration"), config))


def gemma3() -> Family:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3Processor
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    special = ["<bos>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>"]
    tokenizer = tokenizer_with(
        special, boi_token="<start_of_image>", eoi_token="<end_of_image>", image_token="<image_soft_token>"
    )
    tokenizer.bos_token = "<bos>"
    processor = Gemma3Processor(
        Gemma3ImageProcessorPil(size={"height": 32, "width": 32}),
        tokenizer,
        chat_template=trl_template("gemma3_training"),
        image_seq_length=4,
    )
    config = Gemma3Config(
        text_config={
            **TEXT,
            "head_dim": 8,
            "vocab_size": len(tokenizer),
            "query_pre_attn_scalar": 8,
            "num_hidden_layers": 3,
            "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "pad_token_id": 0,
        },
        vision_config={"model_type": "siglip_vision_model", **SIGLIP, "image_size": 32, "patch_size": 8},
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
    )
    return Family("gemma3", processor, _seeded(Gemma3ForConditionalGeneration, config))


def pmc_cambrian(tokenizer_folder) -> Family:
    """All four towers, three connector layers, two samplers; `tokenizer_folder` as in `tiny_text_model`."""
    tests = Path(__file__).parents[1]
    sys.path[:0] = [str(tests / name) for name in ("models", "property") if str(tests / name) not in sys.path]
    from generation_cases import TOWERS, with_large_weights
    from tiny_cambrian import small_towers_config

    from semihv_hf.models.assemble import build_processor

    processor = build_processor(tokenizer_folder, TOWERS, 4, chat_template="chatml")
    return Family("pmc_cambrian", processor, with_large_weights(small_towers_config()))


NAMES = ["pmc_cambrian", "llava", "qwen2_vl", "qwen2_5_vl", "gemma3"]


def make(name: str, tokenizer_folder) -> Family:
    if name == "pmc_cambrian":
        return pmc_cambrian(tokenizer_folder)
    return {"llava": llava, "gemma3": gemma3}[name]() if name in ("llava", "gemma3") else qwen(name)


def row(*parts, answer="No.", images=(), **columns) -> dict:
    """A row of one turn: texts, and `"image"` where an image stands; `images` as PIL images or files."""
    content = [{"type": "image"} if part == "image" else {"type": "text", "text": part} for part in parts]
    reply = [{"type": "text", "text": answer}]
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": reply}]
    return {"messages": messages, "images": list(images), **columns}


def encoded(image, kind: str = "PNG", **options) -> dict:
    """An image as an undecoded column gives it."""
    data = io.BytesIO()
    image.save(data, kind, **options)
    return {"bytes": data.getvalue(), "path": None}


def mixed_rows(picture) -> list[dict]:
    """One image, text only, two images of different shapes, a strip: what a pack has to keep apart."""
    return [
        row("image", "Is this an axial MRI?", images=[picture(60, 40, 1)], id="one"),
        row("What plane is shown?", answer="Axial.\n\nIt shows no lesion.", id="text"),
        row("image", "and then", "image", "\n\nwhat?", images=[picture(30, 90, 2), picture(50, 50, 3)], id="two"),
        row("image", "\nDescribe the image.", answer="An MRI.", images=[picture(200, 30, 4)], id="strip"),
    ]
