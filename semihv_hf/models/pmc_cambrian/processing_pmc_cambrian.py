# Copyright 2026 The semihv-hf authors. Licensed under the Apache License, Version 2.0.
"""Processor of PMC-Cambrian: conversations and images to model inputs."""

from typing import Any

from transformers.processing_utils import MultiModalData
from transformers.processing_utils import ProcessorMixin

from .configuration_pmc_cambrian import num_image_tokens
from .image_decoding_pmc_cambrian import flatten_images
from .image_processing_pil_pmc_cambrian import PMCCambrianImageProcessorPil
from .saving_pmc_cambrian import PMCCambrianSavingMixin

# Begins as the library's own message does, which callers look for.
SAME_NUMBER = "The number of image tokens in the prompts should be the same as the number of images"


class PMCCambrianSavingProcessor(PMCCambrianSavingMixin, ProcessorMixin):
    # One base class with every method of the library's: that is where its tests look for what a processor overrides.
    """The library's processor with what saving and pushing add."""


class PMCCambrianProcessor(PMCCambrianSavingProcessor):
    r"""
    Conversations and images to the inputs of [`PMCCambrianForConditionalGeneration`].

    One image token in a rendered conversation stands for one image; it is repeated for every kept cell of the query
    grid and for the newline at the end of each row. The templates write every special token themselves, so
    `apply_chat_template` never lets the tokenizer add another begin-of-sequence token.

    Args:
        image_processor ([`PMCCambrianImageProcessorPil`] or [`PMCCambrianImageProcessor`]): makes the pixels.
        tokenizer (`PreTrainedTokenizerBase`): a fast tokenizer that knows the image token.
        chat_template (`str`, *optional*): Jinja template; the tokenizer's own one if left out.
        image_token (`str`, *optional*): placeholder of an image, one token of the vocabulary; by default the
            tokenizer's `image_token`.
        query_side (`int`, *optional*, defaults to 24): side of the model's query grid.
    """

    # Saving always brings the code along, so that a folder loads where this package is not installed.
    _auto_class = "AutoProcessor"

    def __init__(self, image_processor, tokenizer, chat_template=None, image_token=None, query_side=24):
        image_token = image_token or getattr(tokenizer, "image_token", None)
        if image_token is None:
            raise ValueError("The tokenizer names no image token: give `image_token`, one token of its vocabulary.")
        ids = tokenizer.encode(image_token, add_special_tokens=False)
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            raise ValueError(f"The image token {image_token!r} must be one token of the vocabulary, got ids {ids}.")
        if int(query_side) < 1:
            raise ValueError(f"query_side must be at least 1, got {query_side}.")
        self.image_token = str(image_token)
        self.image_token_id = ids[0]
        self.query_side = int(query_side)
        if chat_template is None:
            chat_template = getattr(tokenizer, "chat_template", None)
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        # Written into every saved folder; set here, so that saving does not change what `to_dict` says.
        self.auto_map = {self._auto_class: "processing_pmc_cambrian.PMCCambrianProcessor"}

    @classmethod
    def _get_arguments_from_pretrained(cls, pretrained_model_name_or_path, processor_dict=None, **kwargs) -> list:
        # The library's choice would be torchvision wherever it is installed. Here the exact backend is the default,
        # unless the folder was saved with the fast one or the caller asks for it.
        backend = kwargs.pop("backend", None)
        use_fast = kwargs.pop("use_fast", None)
        if backend is None and use_fast is not None:
            backend = "torchvision" if use_fast else "pil"
        if backend is None:
            saved = ((processor_dict or {}).get("image_processor") or {}).get("auto_map") or {}
            saved = saved.get("AutoImageProcessor")
            backend = "torchvision" if isinstance(saved, dict) and "torchvision" in saved else "pil"
        if backend == "pil":
            image_processor_class = PMCCambrianImageProcessorPil
        elif backend in ("torchvision", "fast"):
            from .image_processing_pmc_cambrian import PMCCambrianImageProcessor

            image_processor_class = PMCCambrianImageProcessor
        else:
            raise ValueError(f"Unknown image processor backend {backend!r}: use 'pil' or 'torchvision'.")
        image_processor = image_processor_class.from_pretrained(pretrained_model_name_or_path, **kwargs)
        subfolder = kwargs.pop("subfolder", "")
        tokenizer = cls._load_tokenizer_from_pretrained(
            "tokenizer", pretrained_model_name_or_path, subfolder=subfolder, **kwargs
        )
        return [image_processor, tokenizer]

    def __call__(self, images: Any = None, text: Any = None, **kwargs):
        """
        Texts with image tokens, and their images, to model inputs.

        Args:
            images (`Any`, *optional*): one image, a list, or one list for each text (rows may be empty).
            text (`str` or `list[str]`, *optional*): rendered conversations, one image token for each image.
            kwargs: settings of tokenizer and image processor, such as `padding` and `return_tensors`.

        Returns:
            `BatchFeature`: `input_ids`, `attention_mask`, the pixels of each tower and `image_sizes`. Without images
            there are no image keys.

        Raises:
            `ValueError`: if the numbers of images and image tokens differ, in all or in one text; if truncation would
                cut image tokens.
        """
        if text is not None and "add_special_tokens" not in kwargs:
            if "add_special_tokens" not in kwargs.get("text_kwargs", {}):
                self._keep_one_bos(text, kwargs)
        return super().__call__(images=images, text=text, **kwargs)

    def _keep_one_bos(self, text: Any, kwargs: dict) -> None:
        # A rendered conversation brings its own begin-of-sequence token: the tokenizer must not add a second one.
        if self.tokenizer.bos_token_id not in self.tokenizer("").input_ids:
            return
        bos = self.tokenizer.bos_token
        texts = [text] if isinstance(text, str) else list(text)
        with_bos = sum(isinstance(sample, str) and sample.startswith(bos) for sample in texts)
        if 0 < with_bos < len(texts):
            raise ValueError(
                f"{with_bos} of {len(texts)} texts begin with {bos}: give all texts or none with it, or set "
                "add_special_tokens."
            )
        if with_bos:
            kwargs["add_special_tokens"] = False

    def prepare_inputs_layout(
        self, images: Any = None, text: Any = None, videos: Any = None, audio: Any = None, **kwargs
    ):
        """One list of texts and one flat list of opened images, with the images of each text counted."""
        if isinstance(text, str):
            text = [text]
        elif text is not None:
            text = list(text)
        if images is not None:
            rows = images if isinstance(images, (list, tuple)) else [images]
            nested = bool(rows) and all(row is None or isinstance(row, (list, tuple)) for row in rows)
            # with sanitize_control_tokens a text may show image tokens that are none; the library then checks the sum
            countable = text is not None and not kwargs.get("sanitize_control_tokens")
            if nested and countable and all(isinstance(sample, str) for sample in text):
                self._check_rows(rows, text)
            images = flatten_images(images) or None
        return images, text, videos, audio

    def _check_rows(self, rows: list, text: list[str]) -> None:
        if len(rows) != len(text):
            raise ValueError(f"{SAME_NUMBER}. {len(rows)} lists of images were given for {len(text)} texts.")
        for index, (row, sample) in enumerate(zip(rows, text, strict=True)):
            found, wanted = len(row or []), sample.count(self.image_token)
            if found != wanted:
                raise ValueError(
                    f"{SAME_NUMBER}. Text {index} has {wanted} image tokens ({self.image_token}), but {found} images."
                )

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs) -> str:
        """The image token, once for every kept cell and row end of image `image_idx`."""
        height, width = (int(size) for size in image_inputs["image_sizes"][image_idx])
        return self.image_token * num_image_tokens(height, width, self.query_side)

    def _get_num_multimodal_tokens(self, image_sizes: list | None = None, **kwargs) -> MultiModalData:
        """
        Count the placeholder tokens of images by size, for serving engines.

        Args:
            image_sizes (`list[list[int]]`, *optional*): (height, width) of each image.

        Returns:
            `MultiModalData`: `num_image_tokens` and `num_image_patches` (always 1) of each image.
        """
        if image_sizes is None:
            return MultiModalData()
        tokens = [num_image_tokens(int(height), int(width), self.query_side) for height, width in image_sizes]
        return MultiModalData(num_image_tokens=tokens, num_image_patches=[1] * len(tokens))

    def apply_chat_template(
        self,
        conversation: Any,
        chat_template: str | None = None,
        processor_kwargs: dict | None = None,
        **kwargs,
    ):
        """
        Render one conversation or a batch, and tokenise it on request.

        Content may be a plain text or a list of `{"type": "image", ...}` and `{"type": "text", ...}`. Images stay
        where the list puts them, with one newline between an image and its neighbours.

        Args:
            conversation (`list[dict]` or `list[list[dict]]`): messages with `role` and `content`.
            chat_template (`str`, *optional*): another template than the processor's.
            processor_kwargs (`dict`, *optional*): passed to the call, such as `padding` and `truncation`.
            kwargs: see `ProcessorMixin.apply_chat_template`; variables of the template such as `system_prompt`.

        Returns:
            `str`, `list[str]`, token ids, or with `tokenize=True, return_dict=True` a `BatchFeature`.
        """
        template = self._resolve_chat_template(chat_template)
        if "image_token" in template:
            kwargs.setdefault("image_token", self.image_token)
        # The template writes all special tokens: the tokenizer adds none, whether or not the first one is a BOS.
        processor_kwargs = {"add_special_tokens": False, **(processor_kwargs or {})}
        return super().apply_chat_template(
            conversation, chat_template=chat_template, processor_kwargs=processor_kwargs, **kwargs
        )


__all__ = ["PMCCambrianProcessor"]
