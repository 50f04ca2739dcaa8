"""A checkpoint that answers questions about images, in batches."""

import hashlib
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semihv_hf.errors import SemiHVError, first_line

PRECISIONS = ("auto", "float32", "bf16")
# Everything that can change an answer; cards, logs, optimizer states and the like cannot.
_ANSWER_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt", "*.py")
_OTHER_FILES = (
    *("stage.json", "trainer_state.json", "all_results.json", "train_results.json", "scores.json", "COMPLETE"),
    "code_manifest.json",  # made of the code, at the latest when the checkpoint is published
)


@dataclass
class Answer:
    """What the model wrote.

    Args:
        text (`str`): the answer without special tokens.
        truncated (`bool`): whether the model was stopped by the limit on new tokens.
    """

    text: str
    truncated: bool


def identify_model(model: str | Path) -> tuple[str, str]:
    """Names a checkpoint by content, without loading it.

    Args:
        model (`str` or `Path`): a checkpoint folder or a Hub id.

    Returns:
        `tuple[str, str]`: a name to show (never a path of this machine) and a hash that changes with any file that can
        change an answer; for a Hub id the commit.

    Raises:
        SemiHVError: there is no such checkpoint.
    """
    folder = Path(model)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise SemiHVError(f"{folder} holds no config.json.", "Give a checkpoint folder.")
        digest = hash_folder(folder)
        return f"{folder.resolve().name}@{digest[:8]}", digest
    from transformers.utils import cached_file
    from transformers.utils.hub import extract_commit_hash

    try:
        config = cached_file(str(model), "config.json")
    except OSError as error:
        raise SemiHVError(f"There is no checkpoint {str(model)!r}.", "Give a folder or a Hub id.") from error
    commit = extract_commit_hash(config, None)
    return f"{model}@{commit[:8]}", commit


def hash_folder(folder: Path) -> str:
    """Hashes the files of a checkpoint folder that can change an answer.

    Args:
        folder (`Path`): the checkpoint folder.

    Returns:
        `str`: sha256 over names and contents.
    """
    names = {path.name for pattern in _ANSWER_FILES for path in folder.glob(pattern) if path.is_file()}
    digest = hashlib.sha256()
    for name in sorted(names - set(_OTHER_FILES)):
        content = hashlib.sha256()
        with open(folder / name, "rb") as handle:
            while block := handle.read(1 << 22):
                content.update(block)
        digest.update(f"{name}\0{content.hexdigest()}\n".encode())
    return digest.hexdigest()


class Answerer:
    """A loaded model and its processor, answering greedily.

    Args:
        model (`transformers.PreTrainedModel`): an image-text-to-text model, in evaluation mode.
        processor (`transformers.ProcessorMixin`): its processor, with a chat template.
        max_new_tokens (`int`, *optional*, defaults to 12): the longest answer.
        autocast_bf16 (`bool`, *optional*, defaults to `False`): compute in bfloat16 with float32 weights.
    """

    def __init__(self, model: Any, processor: Any, *, max_new_tokens: int = 12, autocast_bf16: bool = False):
        self.model = model
        self.processor = processor
        self.autocast_bf16 = autocast_bf16
        tokenizer = processor.tokenizer
        config = model.generation_config
        stops = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        self.stop_ids = sorted({stop for stop in [*stops, tokenizer.eos_token_id] if stop is not None})
        pad_id = tokenizer.pad_token_id
        if pad_id is None:
            tokenizer.pad_token = tokenizer.eos_token
            pad_id = tokenizer.pad_token_id
        self.generate_options = {
            "do_sample": False,
            "num_beams": 1,
            "max_new_tokens": max_new_tokens,
            "eos_token_id": self.stop_ids or None,
            "pad_token_id": pad_id,
        }

    @classmethod
    def load(
        cls, model: str | Path, *, max_new_tokens: int = 12, precision: str = "auto", device: str | None = None
    ) -> "Answerer":
        """Loads a checkpoint.

        Args:
            model (`str` or `Path`): a checkpoint folder or a Hub id.
            max_new_tokens (`int`, *optional*, defaults to 12): the longest answer.
            precision (`str`, *optional*, defaults to `"auto"`): `"float32"`, `"bf16"` (weights in float32 and bfloat16
                autocast), or `"auto"`: float32 on the processor, the checkpoint's own type on an accelerator.
            device (`str`, *optional*): where to run; the accelerator where there is one.

        Returns:
            `Answerer`: ready to answer.

        Raises:
            SemiHVError: the precision is unknown, or the checkpoint cannot be loaded.
        """
        if precision not in PRECISIONS:
            raise SemiHVError(f"Unknown precision {precision!r}.", f"Choose one of: {', '.join(PRECISIONS)}.")
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        import semihv_hf  # noqa: F401  (registers the model's classes, so that no trust flag is needed)

        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = "auto" if precision == "auto" and device != "cpu" else torch.float32
        try:
            processor = AutoProcessor.from_pretrained(str(model))
            network = AutoModelForImageTextToText.from_pretrained(str(model), dtype=dtype)
        except (OSError, ValueError, KeyError) as error:
            raise SemiHVError(f"The checkpoint {model} cannot be loaded: {first_line(error)}") from error
        if getattr(processor, "tokenizer", None) is None:
            raise SemiHVError(f"The checkpoint {model} has no processor with a tokenizer.", "Save its processor too.")
        network = network.to(device).eval()
        return cls(network, processor, max_new_tokens=max_new_tokens, autocast_bf16=precision == "bf16")

    def answer(self, conversations: list[tuple[list, list[dict]]]) -> list[Answer]:
        """Answers a batch.

        Args:
            conversations (`list[tuple[list, list[dict]]]`): images and messages whose image
                parts they fill, one pair a question.

        Returns:
            `list[Answer]`: one answer a question, in the same order.
        """
        import torch

        # Left padding, so that the last position of every row is the end of its own prompt.
        inputs = self.processor.apply_chat_template(
            [_with_images(images, messages) for images, messages in conversations],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        ).to(self.model.device)
        inputs = {
            key: value.to(self.model.dtype) if torch.is_tensor(value) and value.is_floating_point() else value
            for key, value in inputs.items()
        }
        device_type = self.model.device.type
        context = torch.autocast(device_type, dtype=torch.bfloat16) if self.autocast_bf16 else nullcontext()
        with torch.inference_mode(), context:
            sequences = self.model.generate(**inputs, **self.generate_options)
        written = sequences[:, inputs["input_ids"].shape[1] :]
        texts = self.processor.batch_decode(written, skip_special_tokens=True)
        ended = torch.isin(written, torch.tensor(self.stop_ids, device=written.device)).any(dim=1).tolist()
        return [Answer(text.strip(), not stop) for text, stop in zip(texts, ended, strict=True)]


def _with_images(images: list, messages: list[dict]) -> list[dict]:
    """Fills the image parts of a conversation with images, in order."""
    remaining = iter(images)
    return [
        {
            "role": message["role"],
            "content": [
                {"type": "image", "image": next(remaining)} if part["type"] == "image" else part
                for part in message["content"]
            ],
        }
        for message in messages
    ]
