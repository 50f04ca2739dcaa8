"""Ready-made pictures of a release: checked by one full decode, freed of metadata, their pixels left as they are.

A plain JPEG or PNG keeps its compressed pixels byte for byte; only what surrounds them goes (EXIF, XMP, IPTC,
comments, colour profiles, thumbnails, text, whatever follows the end). Anything else is decoded and stored as PNG, so
that no picture is compressed with loss a second time.
"""

import io
import re
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageFile, ImageOps

from .imaging import UnreadableImage, encode_png, to_8bit

# Where Pillow begins to warn of a decompression bomb: a quarter of a gigabyte of RGB.
MAX_PIXELS = 89_478_485
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
# What else is read, through Pillow. Formats that run other programs or fetch other files are not among them.
_OTHER_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "TIFF", "WEBP")
_EXIF, _ORIENTATION = b"Exif\0\0", 0x0112
# Inside the coded data of a JPEG, FF is followed by a stuffed zero or a restart marker; anything else ends the scan.
# A pattern that begins with one plain byte is searched for at the speed of memory.
_END_OF_SCAN = re.compile(rb"\xff(?:[^\x00\xd0-\xd7\xff]|\xff+[^\x00\xd0-\xd7\xff])")
_PLAIN_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended sequential and progressive, all Huffman-coded
_OTHER_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
# First column and row, and steps between columns and rows, of each pass of an interlaced PNG.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_JFIF_BYTES = 14  # of an APP0 segment up to the thumbnail


def clean_picture(data: bytes, *, name: str) -> bytes:
    """Checks a picture by decoding all of it, and gives it back without metadata.

    8-bit greyscale and RGB stay as they are compressed. Everything else becomes PNG: a rotation stated in EXIF is
    carried out, CMYK and palettes become RGB, transparency is laid on white, 16 bits are mapped to 8 between the
    percentiles of [`semihv_hf.data.imaging.to_8bit`], an animation gives its first picture.

    Args:
        data (`bytes`): a JPEG, PNG, GIF, BMP, TIFF, WebP or JPEG 2000 file.
        name (`str`): its name in the release, for the error.

    Returns:
        `bytes`: a JPEG or PNG file, greyscale or RGB of 8 bits.

    Raises:
        [`UnreadableImage`]: the file is torn or damaged, is no picture, or would unpack to more than `MAX_PIXELS`.
    """
    try:
        if data.startswith(_JPEG):
            cleaned = _clean_jpeg(data)
        elif data.startswith(_PNG):
            cleaned = _clean_png(data)
        else:
            cleaned = None
        if cleaned is None:
            return encode_png(_converted(data))
        _decode(cleaned)
        return cleaned
    except Exception as error:  # Pillow and its codecs raise many types for a damaged file
        raise _unreadable(error, name) from error


def read_sixteen_bit(data: bytes, *, name: str) -> np.ndarray:
    """Reads a greyscale picture of 16 bits with its values as they are stored.

    Args:
        data (`bytes`): a PNG, or a TIFF of either byte order whose first page is read.
        name (`str`): its name in the release, for the error.

    Returns:
        `numpy.ndarray`: `(rows, columns)`, `uint16`, or `int16` for a TIFF that says so.

    Raises:
        [`UnreadableImage`]: the file is torn or damaged, has another depth or colours, or is too large.
    """
    try:
        if data.startswith(_PNG):
            values = _sixteen_bit_png(data)
        elif data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            values = _first_tiff_page(data)
        else:
            raise ValueError("it is neither PNG nor TIFF")
        if values.ndim != 2 or values.dtype.kind not in "iu" or values.dtype.itemsize != 2:
            raise ValueError(f"it holds {values.dtype} pixels of shape {values.shape}, not 16-bit greyscale")
        return values
    except Exception as error:  # Pillow, tifffile and the codecs raise many types for a damaged file
        raise _unreadable(error, name) from error


def _unreadable(error: Exception, name: str) -> UnreadableImage:
    reason = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
    if isinstance(error, Image.UnidentifiedImageError):  # Pillow names an object in memory, which says nothing
        reason = "it is no picture of a known kind"
    return UnreadableImage(name, reason or type(error).__name__)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels are more than the {MAX_PIXELS:,} that are read")
    if width * height == 0:
        raise ValueError("it has no pixels")


def _decode(data: bytes) -> None:
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, so torn files would pass as whole ones")
    # Its size is known to be within bounds, so no warning can arise here.
    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
        # At an eighth of its size a JPEG is decoded in half the time; all of its coded data is read just the same.
        image.draft("L", (1, 1))
        image.load()
        if image.format == "PNG":
            # Where the rows end early, Pillow leaves the rest black and says nothing.
            last_row = image.crop((0, image.height - 1, image.width, image.height))
            if image.info.get("interlace") or last_row.getbbox() is None:
                _check_rows(data)


# --- JPEG (ITU-T T.81 Annex B) ---------------------------------------------------------------------------------------


def _clean_jpeg(data: bytes) -> bytes | None:
    """The file without application and comment segments; `None` where its pixels must be converted."""
    parts, at, plain = [b"\xff\xd8"], 2, None
    while True:
        if at >= len(data) or data[at] != 0xFF:
            raise ValueError(_torn(data, at))
        while data[at : at + 1] == b"\xff":  # any number of fill bytes may precede a marker
            at += 1
        marker = data[at : at + 1]
        if marker == b"\xd9":
            break
        length = int.from_bytes(data[at + 1 : at + 3], "big")
        if len(data) < at + 3 or length < 2 or at + 1 + length > len(data):
            raise ValueError(_torn(data, at))
        code, body = marker[0], data[at + 3 : at + 1 + length]
        at += 1 + length
        if code == 0xE1 and body.startswith(_EXIF) and _orientation(body) != 1:
            return None
        if code in _OTHER_FRAMES:
            return None
        if code in _PLAIN_FRAMES:
            depth, height, width, components = struct.unpack(">BHHB", body[:6])
            _check_size(width, height)
            plain = depth == 8 and components in (1, 3)
            if not plain:
                return None
        kept = _kept_segment(code, body)
        if kept is not None:
            parts.append(b"\xff" + marker + struct.pack(">H", len(kept) + 2) + kept)
        if code == 0xDA:
            end = _END_OF_SCAN.search(data, at)
            if end is None:
                raise ValueError("the JPEG data ends before its end marker, so the file is torn")
            parts.append(data[at : end.start()])
            at = end.start()
    if plain is None:
        raise ValueError("the JPEG file holds no frame")
    parts.append(b"\xff\xd9")
    return b"".join(parts)


def _kept_segment(code: int, body: bytes) -> bytes | None:
    if code == 0xE0:  # JFIF: it says that colours are YCbCr. Its thumbnail, and the JFXX extension, go.
        if not body.startswith(b"JFIF\0") or len(body) < _JFIF_BYTES:
            return None
        return body[: _JFIF_BYTES - 2] + b"\0\0"
    if code == 0xEE:  # Adobe: which colour transform was used
        return body[:12] if body.startswith(b"Adobe") else None
    return None if 0xE1 <= code <= 0xEF or code == 0xFE else body


def _torn(data: bytes, at: int) -> str:
    if at + 3 >= len(data):
        return "the JPEG data ends before its end marker, so the file is torn"
    return f"the JPEG structure is damaged at byte {at}"


def _orientation(exif: bytes) -> int:
    holder = Image.Exif()
    try:
        holder.load(exif)
        return int(holder.get(_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block states no rotation; Pillow raises many types for it
        return 1


# --- PNG (ISO/IEC 15948) ---------------------------------------------------------------------------------------------


def _clean_png(data: bytes) -> bytes | None:
    """The file with its critical chunks alone; `None` where its pixels must be converted."""
    header, parts, must_convert = None, [_PNG], False
    for kind, chunk in _png_chunks(data):
        if kind == b"IHDR":
            header = struct.unpack(">IIBBBBB", chunk[8:21])
            _check_size(*header[:2])
        elif kind == b"tRNS":
            must_convert = True
        elif kind == b"eXIf":
            must_convert |= _orientation(_EXIF + chunk[8:-4]) != 1
        if not kind[0] & 0x20:  # the case of the first letter marks a critical chunk
            parts.append(chunk)
    if header is None:
        raise ValueError("the PNG file has no header")
    depth, colour_type = header[2:4]
    return None if must_convert or depth != 8 or colour_type not in (0, 2) else b"".join(parts)


def _png_chunks(data: bytes):
    at = len(_PNG)
    while True:
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 12 + length
        if end > len(data) or at + 12 > len(data):
            raise ValueError("the PNG data ends before its last chunk, so the file is torn")
        kind = data[at + 4 : at + 8]
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ValueError(f"the checksum of a PNG chunk ({kind.decode('latin-1')!r}) is wrong")
        yield kind, data[at:end]
        if kind == b"IEND":
            return
        at = end


def _check_rows(data: bytes) -> None:
    """Unpacks the pixels once more to see that none is missing."""
    packed = b"".join(chunk[8:-4] for kind, chunk in _png_chunks(data) if kind == b"IDAT")
    width, height, depth, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    bits = depth * (3 if colour_type == 2 else 1)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(width - x) // across), -(-(height - y) // down)) for x, y, across, down in passes]
    expected = sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sizes if columns > 0 and rows > 0)
    found = len(zlib.decompressobj().decompress(packed, expected))
    if found < expected:
        raise ValueError(f"the PNG holds {found} of the {expected} bytes of its pixels")


def _sixteen_bit_png(data: bytes) -> np.ndarray:
    parts = [_PNG]
    for kind, chunk in _png_chunks(data):
        if kind == b"IHDR":
            width, height, depth, colour_type = struct.unpack(">IIBB", chunk[8:18])
            _check_size(width, height)
            if (depth, colour_type) != (16, 0):
                raise ValueError(f"it is a PNG of {depth} bits and colour type {colour_type}, not 16-bit greyscale")
        if not kind[0] & 0x20:
            parts.append(chunk)
    cleaned = b"".join(parts)
    _decode(cleaned)
    with Image.open(io.BytesIO(cleaned), formats=("PNG",)) as image:
        return np.asarray(image).astype(np.uint16)


# --- everything else -------------------------------------------------------------------------------------------------


def _first_tiff_page(data: bytes) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages[0]
        _check_size(page.imagewidth, page.imagelength)
        values = page.asarray()
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _converted(data: bytes) -> np.ndarray:
    """`uint8` pixels, greyscale or RGB, of a picture that cannot stay as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(data), formats=_OTHER_FORMATS)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ValueError(f"it would unpack to more pixels than are read ({error})") from error
    with image:
        _check_size(*image.size)
        image.load()
        turned = ImageOps.exif_transpose(image)
        if turned.mode.startswith("I") or turned.mode == "F":
            return to_8bit(np.asarray(turned).astype(np.float32))
        if turned.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in turned.info:
            turned = turned.convert("RGBA")
            white = Image.new("RGBA", turned.size, "white")
            turned = Image.alpha_composite(white, turned)
            grey = image.mode in ("L", "LA", "La", "1")
            return np.asarray(turned.convert("L" if grey else "RGB"))
        return np.asarray(turned.convert("L" if turned.mode in ("L", "1") else "RGB"))
