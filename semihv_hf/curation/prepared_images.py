"""The images of a case as parts of messages: each decoded, shrunk and encoded once, however many requests show it."""

from __future__ import annotations

import io
from typing import Any

from semihv_hf.llm.images import SizeRule, image_part, size_rule, target_size
from semihv_hf.llm.types import Failure


class PreparedImages:
    """What [`image_part`] made of the images of a case, kept until the case is done.

    Classification and every task of the generation show the same images, mostly at the same size. The bytes of a part
    follow from the image and the size at which it is sent, so requests of equal size share one text.
    """

    def __init__(self):
        self._sizes: dict[bytes, tuple[int, int] | None] = {}
        self._urls: dict[tuple[bytes, tuple[int, int]], str] = {}

    def part(
        self, data: bytes, *, detail: str = "high", longest: int | None = None, provider: str = "openai"
    ) -> dict[str, Any] | Failure:
        """Makes an image a part of a message; see [`image_part`].

        Args:
            data (`bytes`): an image file.
            detail (`str`, *optional*, defaults to `"high"`): `"high"` or `"low"`.
            longest (`int`, *optional*): most pixels of the longer side.
            provider (`str`, *optional*, defaults to `"openai"`): whose rule of sizes applies.

        Returns:
            `dict` or [`Failure`]: byte for byte what [`image_part`] gives.
        """
        sent = self._sent_size(data, size_rule(detail, longest, provider))
        if sent is None or (url := self._urls.get((data, sent))) is None:
            part = image_part(data, detail=detail, longest=longest, provider=provider)
            if sent is not None and isinstance(part, dict):
                self._urls[data, sent] = part["image_url"]["url"]
            return part
        image = {"url": url, "detail": detail} if provider == "openai" else {"url": url}
        return {"type": "image_url", "image_url": image}

    def _sent_size(self, data: bytes, rule: SizeRule) -> tuple[int, int] | None:
        """Width and height before any turn that EXIF asks for; `None` of a file whose header cannot be read."""
        from PIL import Image

        if data not in self._sizes:
            try:
                with Image.open(io.BytesIO(data)) as image:
                    self._sizes[data] = image.size
            except Exception:  # whatever is wrong with it, `image_part` says so
                self._sizes[data] = None
        size = self._sizes[data]
        return None if size is None else target_size(size, rule)
