"""How many tokens a request will be, by rules that need no tokenizer: an estimate, and always called one."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from semihv_hf.llm.keys import image_bytes, schema_json

if TYPE_CHECKING:
    from semihv_hf.llm.types import ChatRequest, ServerSettings

# Four characters a token is OpenAI's rule of thumb for English; other scripts need more tokens.
CHARACTERS_PER_TOKEN = 4.0
# Each message and the reply's start cost a few tokens beside their text.
TOKENS_PER_MESSAGE = 4
# Assumed for a reply where the request sets no limit.
OUTPUT_TOKENS = 1024


@dataclass(frozen=True)
class TileRule:
    """The image tokens of OpenAI's models that count tiles of 512 pixels.

    "High" fits an image into a square of 2048, then its shorter side to 768, and pays for each tile; "low" pays the
    base only (platform.openai.com, guide "Images and vision", calculating costs).

    Args:
        base (`int`, *optional*, defaults to 85): tokens of every image.
        tile (`int`, *optional*, defaults to 170): tokens of every tile.
    """

    base: int = 85
    tile: int = 170

    def __call__(self, width: int, height: int, detail: str) -> int:
        """The tokens of one image.

        Args:
            width (`int`): in pixels.
            height (`int`): in pixels.
            detail (`str`): `"low"`, `"high"` or `"auto"`, which counts as high.

        Returns:
            `int`: tokens.
        """
        if detail == "low":
            return self.base
        scale = min(1.0, 2048 / max(width, height))
        scale = min(scale, 768 / min(width, height))
        tiles = math.ceil(round(width * scale, 3) / 512) * math.ceil(round(height * scale, 3) / 512)
        return self.base + self.tile * max(1, tiles)


def image_rule(model: str) -> TileRule:
    """The published numbers of a model.

    Args:
        model (`str`): the model's name.

    Returns:
        [`TileRule`]: that of gpt-4o for a model without one of its own.
    """
    if model.startswith("gpt-4o-mini"):
        return TileRule(2833, 5667)
    if model.startswith(("o1", "o3")):
        return TileRule(75, 150)
    if model.startswith("gpt-5"):
        return TileRule(70, 140)
    return TileRule()


@dataclass(frozen=True)
class TokenRule:
    """How the tokens of a request are estimated.

    Args:
        characters_per_token (`float`, *optional*, defaults to 4): of text. A character beyond Latin script counts as a
            token of its own.
        image_tokens (`Callable`, *optional*): `(width, height, detail)` to tokens; [`image_rule`] of the model by
            default.
        output_tokens (`int`, *optional*, defaults to 1024): of a reply where `max_tokens` is not set.
    """

    characters_per_token: float = CHARACTERS_PER_TOKEN
    image_tokens: Callable[[int, int, str], int] | None = None
    output_tokens: int = OUTPUT_TOKENS

    def estimate(self, settings: ServerSettings, request: ChatRequest) -> tuple[int, int]:
        """The tokens of one request.

        Args:
            settings ([`ServerSettings`]): the model, and the limit of the reply.
            request ([`ChatRequest`]): the request.

        Returns:
            `tuple[int, int]`: tokens sent, and the most that is expected back.
        """
        rule = self.image_tokens or image_rule(settings.model)
        tokens = self._text(schema_json(request.schema) or "")
        for message in request.messages:
            tokens += TOKENS_PER_MESSAGE
            content = message.get("content")
            if isinstance(content, str):
                tokens += self._text(content)
            elif isinstance(content, list):
                tokens += sum(self._part(part, rule) for part in content if isinstance(part, dict))
        return tokens, settings.max_tokens or self.output_tokens

    def _part(self, part: dict[str, Any], rule: Callable[[int, int, str], int]) -> int:
        if part.get("type") != "image_url":
            return self._text(str(part.get("text", "")))
        image = part.get("image_url")
        image = image if isinstance(image, dict) else {"url": image}
        width, height = _image_size(str(image.get("url")))
        return rule(width, height, image.get("detail") or "auto")

    def _text(self, text: str) -> int:
        if text.isascii():
            return math.ceil(len(text) / self.characters_per_token)
        wide = sum(1 for character in text if ord(character) > 0x24F)
        return math.ceil((len(text) - wide) / self.characters_per_token) + wide


def _image_size(url: str) -> tuple[int, int]:
    """Read from the header. An image that is not at hand counts as large as the model would take it."""
    from PIL import Image

    data = image_bytes(url)
    if data is not None:
        try:
            with Image.open(io.BytesIO(data)) as image:
                return image.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return 2048, 2048
    return 2048, 2048
