"""Images as parts of a message: at the size that the model uses, without metadata, and the same bytes every time."""

from __future__ import annotations

import base64
import hashlib
import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from semihv_hf.errors import SemiHVError, first_line
from semihv_hf.llm.keys import image_bytes
from semihv_hf.llm.types import Failure

if TYPE_CHECKING:
    from PIL.Image import Image

DETAILS = ("high", "low")
JPEG_QUALITY = 95
# Orientation, the only entry of EXIF that changes what is seen.
_ORIENTATION = 0x0112
# A drawing has few colours and sharp edges: PNG keeps it exactly, in fewer bytes than JPEG.
_FEW_COLOURS = 256
# Not all that Pillow reads: some of its readers start other programs.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")


@dataclass(frozen=True)
class SizeRule:
    """How large an image a model looks at.

    Args:
        longest (`int` or `None`): most pixels of the longer side.
        shortest (`int` or `None`, *optional*): most pixels of the shorter side.
    """

    longest: int | None
    shortest: int | None = None


# OpenAI shrinks to these sizes itself (platform.openai.com, guide "Images and vision"): more pixels only cost time. A
# server of one's own knows best what its model wants, so it gets what there is.
SIZE_RULES = {
    "openai": {"high": SizeRule(2048, 768), "low": SizeRule(512)},
    "local": {"high": SizeRule(None), "low": SizeRule(512)},
}


def image_part(
    data: bytes, *, detail: str = "high", longest: int | None = None, provider: str = "openai"
) -> dict[str, Any] | Failure:
    """Makes an image a part of a message.

    Nothing is enlarged. Metadata (EXIF, comments, text chunks), which may name a person, is taken off; a turn that
    EXIF asks for is carried out. A JPEG that needs no other change keeps its compressed pixels bit for bit. Else
    photographs become JPEG and drawings PNG. Transparent pixels become white.

    Args:
        data (`bytes`): an image file: BMP, GIF, JPEG, PNG, TIFF or WebP, with one frame and 8 bits a channel.
        detail (`str`, *optional*, defaults to `"high"`): `"high"` or `"low"`.
        longest (`int`, *optional*): most pixels of the longer side, where that is less than the provider's rule.
        provider (`str`, *optional*, defaults to `"openai"`): one of `SIZE_RULES`: `"openai"`, or `"local"` for any
            other server, which gets the image as large as it is.

    Returns:
        `dict` or [`Failure`]: an `image_url` part with a data URI; a failure of kind `"image"` if the image cannot be
        read whole or shown with 8 bits a channel.

    Raises:
        `SemiHVError`: a setting is wrong.
    """
    rule = size_rule(detail, longest, provider)
    try:
        encoded, kind = _prepared(data, rule)
    except _Unreadable as problem:
        return Failure("image", str(problem))
    url = f"data:image/{kind};base64,{base64.b64encode(encoded).decode('ascii')}"
    return {"type": "image_url", "image_url": {"url": url, "detail": detail} if provider == "openai" else {"url": url}}


def image_hash(part: dict[str, Any]) -> str:
    """The sha256 of the image in a part, as it stands in the cache in the place of the image.

    Args:
        part (`dict`): what [`image_part`] made.

    Returns:
        `str`: 64 hex digits.

    Raises:
        `SemiHVError`: the part holds no data URI.
    """
    data = image_bytes(part["image_url"]["url"])
    if data is None:
        raise SemiHVError("The part holds no image as a data URI.", "Make it with image_part.")
    return hashlib.sha256(data).hexdigest()


class _Unreadable(Exception):
    """Why an image cannot be sent."""


def size_rule(detail: str, longest: int | None, provider: str) -> SizeRule:
    """How large an image is sent; the arguments are those of [`image_part`].

    Raises:
        `SemiHVError`: a setting is wrong.
    """
    if provider not in SIZE_RULES:
        raise SemiHVError(f"Unknown provider {provider!r} of images.", f"Known are {', '.join(SIZE_RULES)}.")
    if detail not in DETAILS:
        raise SemiHVError(f"Unknown detail {detail!r} of images.", f"Known are {', '.join(DETAILS)}.")
    rule = SIZE_RULES[provider][detail]
    if longest is None:
        return rule
    if isinstance(longest, bool) or not isinstance(longest, int) or longest < 1:
        raise SemiHVError(f"longest is {longest!r}.", "Give pixels, at least 1.")
    return SizeRule(longest if rule.longest is None else min(longest, rule.longest), rule.shortest)


def _prepared(data: bytes, rule: SizeRule) -> tuple[bytes, str]:
    from PIL import Image, ImageOps

    if not data:
        raise _Unreadable("the image file is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                image.load()
                _check(image)
                turned = image.getexif().get(_ORIENTATION, 1) not in (0, 1)
                size = target_size(image.size, rule)
                if image.format == "JPEG" and image.mode in ("L", "RGB") and not turned and size == image.size:
                    return strip_jpeg(data), "jpeg"
                upright = ImageOps.exif_transpose(image) if turned else image
                if turned:
                    size = target_size(upright.size, rule)
                lossy = image.format in ("JPEG", "MPO")
                return _encoded(_flat(upright), size, lossy)
        except _Unreadable:
            raise
        # Whatever a damaged file makes a decoder raise, it is the file that is wrong.
        except Exception as error:
            raise _Unreadable(f"the image cannot be read ({first_line(error)[:200]})") from error


def _check(image: Image) -> None:
    if image.mode.startswith(("I", "F")):
        raise _Unreadable(f"the image has more than 8 bits a pixel (mode {image.mode}); window it to 8 bits first")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # the further frames of an MPO are previews and other views
        raise _Unreadable(f"the image has {frames} frames; choose one")


def target_size(size: tuple[int, int], rule: SizeRule) -> tuple[int, int]:
    """The size to send.

    Args:
        size (`tuple[int, int]`): width and height.
        rule ([`SizeRule`]): the limits.

    Returns:
        `tuple[int, int]`: width and height, never larger than they are, never below 1, in the same proportion.
    """
    scale = 1.0
    if rule.longest is not None:
        scale = min(scale, rule.longest / max(size))
    if rule.shortest is not None:
        scale = min(scale, rule.shortest / min(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _flat(image: Image) -> Image:
    """Grey or colour, without transparency and without a palette."""
    from PIL import Image as Images

    if image.mode in _TRANSPARENT or "transparency" in image.info:
        clear = image.convert("RGBA")
        return Images.alpha_composite(Images.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _encoded(image: Image, size: tuple[int, int], lossy: bool) -> tuple[bytes, str]:
    from PIL import Image as Images

    drawing = not lossy and image.getcolors(_FEW_COLOURS) is not None
    if drawing and image.mode == "L":
        # An 8-bit grey image never has more than 256 values, so those of a radiograph say nothing; its size does.
        drawing = len(image.getcolors(_FEW_COLOURS)) <= 32
    if size != image.size:
        image = image.resize(size, Images.Resampling.LANCZOS, reducing_gap=3.0)
    # A new image holds pixels only: no profile, comment or text chunk comes along.
    bare = Images.frombytes(image.mode, image.size, image.tobytes())
    out = io.BytesIO()
    if drawing:
        bare.save(out, "PNG", optimize=False, compress_level=6)
        return out.getvalue(), "png"
    bare.save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=False, progressive=False)
    return out.getvalue(), "jpeg"


def strip_jpeg(data: bytes) -> bytes:
    """A JPEG without its comments and application segments; the compressed pixels stay as they are.

    Args:
        data (`bytes`): a JPEG file that was decoded without error.

    Returns:
        `bytes`: the same picture. Kept are JFIF (APP0) and Adobe (APP14), which says how colours are stored. What
        follows the end of the picture is cut off.
    """
    kept = [data[:2]]
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        if marker == 0xD9:
            break
        length = 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        segment = data[place : place + length]
        if marker in (0xE0, 0xEE) or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            if not (marker == 0xE0 and not segment[4:9] == b"JFIF\0"):  # JFXX holds a thumbnail
                kept.append(segment)
        place += length
        if marker == 0xDA:
            end = _scan_end(data, place)
            kept.append(data[place:end])
            place = end
    return b"".join([*kept, b"\xff\xd9"])


def _scan_end(data: bytes, place: int) -> int:
    """Where the entropy-coded bytes of a scan end: at a marker that is no stuffed zero and no restart."""
    while (place := data.find(b"\xff", place)) != -1 and place + 1 < len(data):
        if data[place + 1] not in (0x00, *range(0xD0, 0xD8)):
            return place
        place += 2
    return len(data)
