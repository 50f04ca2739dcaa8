"""Text encoders that are no CLIP: a transformer whose token vectors are averaged, as sentence-transformers does."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from semihv_hf.errors import SemiHVError


class TokenReader:
    """A tokenizer with its window.

    Args:
        tokenizer: a fast tokenizer of `transformers`.
        most (`int`): most tokens that the model reads, special tokens among them.
        name (`str`): the encoder, for messages.
    """

    def __init__(self, tokenizer, most: int, name: str):
        if not tokenizer.is_fast:
            raise SemiHVError(f"The tokenizer of {name} does not tell where its tokens lie.", "Use a fast tokenizer.")
        self.tokenizer = tokenizer
        self.name = name
        self.most = most
        self.window = most - tokenizer.num_special_tokens_to_add()

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where each token begins and ends; tokens without characters of their own are left out."""
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [(begin, end) for begin, end in found["offset_mapping"] if end > begin]

    def inputs(self, texts: Sequence[str], *, padding: bool | str, device: str) -> dict:
        """Model inputs; a text beyond the window is refused, not cut."""
        most = {"max_length": self.most} if padding == "max_length" else {}
        found = self.tokenizer(list(texts), padding=padding, return_tensors="pt", verbose=False, **most)
        length = found["input_ids"].shape[1]
        if length > self.most:
            raise SemiHVError(
                f"A text of {length} tokens is longer than the {self.most} that {self.name} reads.",
                "Cut it with chunk_spans first.",
            )
        return {key: value.to(device) for key, value in found.items()}


class SentenceModel:
    """A transformer encoder with mean or first-token pooling.

    Args:
        folder (`pathlib.Path`): a transformers model, with or without the files of sentence-transformers.
        name (`str`): the encoder, for messages.
        device (`str`): where torch computes.
        batch_size (`int`): texts at a time.
    """

    def __init__(self, folder: Path, name: str, device: str, batch_size: int):
        from transformers import AutoModel, AutoTokenizer

        self.model = load_quietly(AutoModel, folder, name).to(device)
        self.device, self.batch_size = device, batch_size
        settings = _json(folder / "sentence_bert_config.json")
        config = self.model.config
        most = settings.get("max_seq_length") or getattr(config, "max_position_embeddings", 512)
        pooling = _json(folder / "1_Pooling" / "config.json")
        self.first_token = bool(pooling.get("pooling_mode_cls_token"))
        if pooling and not self.first_token and not pooling.get("pooling_mode_mean_tokens"):
            raise SemiHVError(f"The pooling of {name} is neither mean nor first token.", "Choose another encoder.")
        self.reader = TokenReader(AutoTokenizer.from_pretrained(folder), most, name)
        self.offsets = self.reader.offsets
        self.window = self.reader.window
        self.dim = config.hidden_size

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """See [`TextSide`]."""
        import torch

        rows = np.zeros((len(texts), self.dim), np.float32)
        with torch.inference_mode():
            for start in range(0, len(texts), self.batch_size):
                batch = texts[start : start + self.batch_size]
                inputs = self.reader.inputs(batch, padding=True, device=self.device)
                states = self.model(**inputs).last_hidden_state
                mask = inputs["attention_mask"][..., None].to(states.dtype)
                pooled = states[:, 0] if self.first_token else (states * mask).sum(1) / mask.sum(1)
                rows[start : start + len(batch)] = pooled.float().cpu().numpy()
        return rows


def load_quietly(auto_class, folder: Path, name: str):
    """A model in evaluation mode and float32; what is wrong with its files in one line.

    Args:
        auto_class: `AutoModel` or the like.
        folder (`pathlib.Path`): the model.
        name (`str`): the encoder, for the message.

    Returns:
        `transformers.PreTrainedModel`: the model.

    Raises:
        `SemiHVError`: it cannot be loaded, or lacks weights.
    """
    import torch
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model, report = auto_class.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        message = " ".join(str(error).split())[:200]
        raise SemiHVError(f"The encoder {name} cannot be loaded: {message}", "Check its files.") from error
    finally:
        if shown:
            logging.enable_progress_bar()
    # A pooling head that is not used here may be absent; anything else would be filled with random numbers.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise SemiHVError(
            f"The encoder {name} lacks {len(missing)} weights, such as {missing[0]}.", "Check which model it is."
        )
    return model.eval()


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
