"""Tiny encoders of random weights in the real classes, and pictures and cases to search."""

import io
from pathlib import Path

from semihv_hf.data.schema import Case, Text, case_id

WORDS = (
    "lung heart liver bone brain left right upper lower lobe mass cyst fracture effusion nodule acute chronic small "
    "large mri ct scan shows with no the a of and in patient fever cough pain"
).split()


def tiny_tokenizer():
    """A fast word tokenizer that begins with [CLS] and ends with [SEP], as real ones do."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    pieces = [*specials, *dict.fromkeys([*WORDS, *letters, *(f"##{letter}" for letter in letters)])]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        bos_token="[CLS]",
        cls_token="[CLS]",
        eos_token="[SEP]",
        sep_token="[SEP]",
    )


def write_clip(folder: Path, *, window: int = 32, seed: int = 0, kind: str = "clip") -> Path:
    """A CLIP or SigLIP of random weights, with its processor."""
    import torch
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPProcessor,
        SiglipConfig,
        SiglipImageProcessor,
        SiglipModel,
        SiglipProcessor,
    )

    tokenizer = tiny_tokenizer()
    size = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    text = {**size, "vocab_size": len(tokenizer), "max_position_embeddings": window, "pad_token_id": 0}
    text |= {"bos_token_id": 2, "eos_token_id": 3}
    vision = {**size, "image_size": 32, "patch_size": 8}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind == "clip":
            model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
            pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
            processor = CLIPProcessor(image_processor=pictures, tokenizer=tokenizer)
        else:
            model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
            pictures = SiglipImageProcessor(size={"height": 32, "width": 32})
            processor = SiglipProcessor(image_processor=pictures, tokenizer=tokenizer)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_bert(folder: Path, *, window: int = 24, seed: int = 0) -> Path:
    """A sentence encoder of random weights."""
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = tiny_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_attention_heads=2,
            num_hidden_layers=2,
            max_position_embeddings=window,
        )
        BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def drawn(seed: int, side: int = 48) -> bytes:
    """A PNG of soft blobs that no other seed gives."""
    import numpy as np
    from PIL import Image

    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


def make_case(number: int, text: str, *, group: str = "", images: list[bytes] | None = None, by="human") -> Case:
    """A case of the source `pydicom` with one text."""
    shown = [drawn(number)] if images is None else images
    source_id = f"scan {number}"
    texts = [Text("report", text, by)] if text else []
    return Case(case_id("pydicom", source_id, shown), "pydicom", source_id, group, "train", "MIT", shown, texts=texts)


def write_cases(folder: Path, cases: list[Case], split: str = "train") -> Path:
    """A cases folder as `semihv build` writes it, with row groups of four rows."""
    import pyarrow

    from semihv_hf.data.columns import case_schema
    from semihv_hf.data.shards import write_shard

    schema = case_schema()
    groups = [
        pyarrow.Table.from_pylist([case.row() for case in cases[start : start + 4]], schema=schema)
        for start in range(0, len(cases), 4)
    ]
    (folder / "cases").mkdir(parents=True, exist_ok=True)
    write_shard(folder / "cases" / f"{split}-00000-of-00001.parquet", groups, schema)
    return folder
