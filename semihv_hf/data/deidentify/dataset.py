"""One DICOM object without what names a person."""

import hashlib
import hmac
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ...errors import SemiHVError
from ..burned_in import BurnedIn, RefusedImage, judge_burned_in, mask_outside
from ..imaging.dicom import PIXEL_ELEMENTS, decode_frames, frame_count, frame_values, readable
from ..imaging.unreadable import UnreadableImage

if TYPE_CHECKING:
    import pydicom

LEAST_SECRET = 16
# Days by which the dates of a patient move back: two months to two years, the range that dicognito takes. Whole days,
# because a date without a time could not follow a shift by hours.
_LEAST_SHIFT, _LARGEST_SHIFT = 62, 730
# De-identification methods of CID 7050.
METHODS = {
    "113100": "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
}
_TEXT = ("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UT")


@dataclass
class Deidentified:
    """What was done to one object.

    Args:
        done (`dict[str, int]`): how many elements were removed, emptied, replaced, and so on.
        codes (`list[str]`): the codes of CID 7050 that the object now states.
        pixels (`str`): `"unchanged"` or `"masked"`.
        reason (`str`): why the pixels were left or masked.
        note (`str`): what is known about features by which a person can be recognised.
    """

    done: dict[str, int] = field(default_factory=dict)
    codes: list[str] = field(default_factory=list)
    pixels: str = "unchanged"
    reason: str = ""
    note: str = ""


def check_secret(secret: str) -> None:
    """Refuses a secret that could be guessed.

    Args:
        secret (`str`): the user's secret.

    Raises:
        `SemiHVError`: it is too short.
    """
    if len(secret) < LEAST_SECRET:
        raise SemiHVError(
            f"The secret has {len(secret)} characters, fewer than {LEAST_SECRET}.",
            "Whoever guesses it can link new identifiers to old ones: give a long random one, and keep it safe.",
        )


def keyed(secret: str, purpose: str, value: str) -> str:
    """A value that nobody can compute, or trace back, without the secret.

    Args:
        secret (`str`): the user's secret.
        purpose (`str`): keeps uses apart.
        value (`str`): what is hashed.

    Returns:
        `str`: 64 hexadecimal digits.
    """
    return hmac.new(secret.encode(), f"{purpose}\0{value}".encode(), hashlib.sha256).hexdigest()


def deidentify_dataset(
    data: "pydicom.Dataset",
    *,
    secret: str,
    on_burned_in: str = "refuse",
    keep_characteristics: bool = False,
    name: str = "DICOM data",
) -> Deidentified:
    """De-identifies an object in place.

    The same secret gives the same identifiers, UIDs and date shifts, so that studies, series and time spans stay
    together across calls; dates move by a number of days that depends on the patient.

    Args:
        data (`pydicom.Dataset`): an object read from a file, with pixels.
        secret (`str`): at least 16 characters, kept by the user.
        on_burned_in (`str`, *optional*, defaults to `"refuse"`): `"refuse"` or `"mask"`: what happens to pixels that
            [`semihv_hf.data.burned_in.judge_burned_in`] wants masked. What it refuses is refused either way.
        keep_characteristics (`bool`, *optional*, defaults to `False`): keep age (over 89 becomes 90), sex, size,
            weight, ethnic group, pregnancy and smoking status.
        name (`str`, *optional*): what an error calls it.

    Returns:
        [`Deidentified`]: what was done.

    Raises:
        [`UnreadableImage`]: the object holds no pixels (reports, plans, waveforms and documents are not handled), or
            pixels that must be cleaned cannot be decoded.
        [`semihv_hf.data.burned_in.RefusedImage`]: its pixels may name a person.
        `SemiHVError`: the secret is too short, an argument unknown, or a package is missing.
    """
    check_secret(secret)
    if on_burned_in not in ("refuse", "mask"):
        raise SemiHVError(f"on_burned_in is {on_burned_in!r}.", 'Give "refuse" or "mask".')
    if not any(element in data for element in PIXEL_ELEMENTS):
        raise UnreadableImage(name, "the object holds no pixels; only images are de-identified")
    with readable(name):
        return _deidentify(data, secret, on_burned_in, keep_characteristics, name)


def _deidentify(
    data: "pydicom.Dataset", secret: str, on_burned_in: str, keep_characteristics: bool, name: str
) -> Deidentified:
    verdict = judge_burned_in(data)
    if verdict.action == "refuse" or (verdict.action == "mask" and on_burned_in == "refuse"):
        raise RefusedImage(name, verdict.reason)
    done: Counter = Counter()
    identifiers = _identifiers(data)
    masked = verdict.action == "mask"
    if masked:
        if not data.file_meta.TransferSyntaxUID.is_little_endian:
            raise RefusedImage(name, f"{verdict.reason}, but big-endian pixels are not masked: convert the file first")
        _mask(data, verdict)
    else:
        done["overlay_bits_cleared"] = _clear_overlay_bits(data, name)
    done["private_removed"] = _remove_private(data)
    _replace_headers(data, secret, keep_characteristics, done)
    done["scrubbed"] = _scrub(data, identifiers)
    codes = ["113100", "113107"] + ["113101"] * masked + ["113108"] * keep_characteristics
    _record_methods(data, sorted(codes), masked)
    _renew_file_meta(data)
    counts = {key: count for key, count in sorted(done.items()) if count}
    return Deidentified(counts, sorted(codes), "masked" if masked else "unchanged", verdict.reason, verdict.note)


def _replace_headers(data: "pydicom.Dataset", secret: str, keep_characteristics: bool, done: Counter) -> None:
    try:
        from dicognito.anonymizer import Anonymizer

        from .profile import CHARACTERISTICS, BasicProfile, ShiftDates, StandardUIDs
    except ImportError as error:
        raise SemiHVError(
            f"De-identification needs the package {error.name}.", "Install it: pip install dicognito dicom-anonymizer"
        ) from error
    patient = str(data.get("PatientID") or "").strip() or str(data.get("StudyInstanceUID") or "")
    span = _LARGEST_SHIFT - _LEAST_SHIFT
    days = -(int(keyed(secret, "dates", patient), 16) % span + _LEAST_SHIFT)
    anonymizer = Anonymizer(seed=keyed(secret, "dicognito", ""))
    # The handler added last is asked first.
    anonymizer.add_element_handler(ShiftDates(done, 24 * days))
    anonymizer.add_element_handler(StandardUIDs(done))
    anonymizer.add_element_handler(BasicProfile(done, CHARACTERISTICS if keep_characteristics else ()))
    anonymizer.anonymize(data)


def _remove_private(data: "pydicom.Dataset") -> int:
    private = [tag for tag in data.keys() if tag.is_private]
    for tag in private:
        del data[tag]  # without reading its value, which is often malformed
    return len(private) + sum(
        _remove_private(item) for element in data if element.VR == "SQ" for item in element.value
    )


def _mask(data: "pydicom.Dataset", verdict: BurnedIn) -> None:
    """Replaces the pixels by uncompressed ones that are black outside of the regions."""
    from pydicom.pixels import set_pixel_data
    from pydicom.uid import ExplicitVRLittleEndian

    frames = range(frame_count(data))
    stored = decode_frames(data, frames)
    photometric, bits, black = data.PhotometricInterpretation, int(data.BitsStored), 0
    if photometric == "PALETTE COLOR":
        stored = [frame_values(data, frame, pixels) for frame, pixels in zip(frames, stored)]
        if stored[0].dtype != np.uint8:
            stored = [(pixels >> 8).astype(np.uint8) for pixels in stored]
        for keyword in [element.keyword for element in data if "PaletteColorLookupTable" in element.keyword]:
            del data[keyword]
        photometric, bits = "RGB", 8
    elif data.SamplesPerPixel == 3:
        photometric = "RGB"  # which decoding makes of every colour space
    elif data.PixelRepresentation == 1:
        black = -(1 << (bits - 1)) if photometric == "MONOCHROME2" else (1 << (bits - 1)) - 1
    elif photometric == "MONOCHROME1":
        black = (1 << bits) - 1
    pixels = np.stack([mask_outside(frame, verdict.regions, black) for frame in stored])
    if data.file_meta.TransferSyntaxUID.is_compressed:
        lossy = not _is_lossless(data.file_meta.TransferSyntaxUID)
        if lossy and not data.get("LossyImageCompression"):
            data.LossyImageCompression = "01"
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    many = "NumberOfFrames" in data
    set_pixel_data(data, pixels if many else pixels[0], photometric, bits, generate_instance_uid=False)
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in data:
            del data[keyword]


def _is_lossless(syntax) -> bool:
    return "lossless" in syntax.name.lower() or "rle" in syntax.name.lower()


def _clear_overlay_bits(data: "pydicom.Dataset", name: str) -> int:
    """Zeroes overlay planes that lie in bits of the pixels (retired, but found in old archives)."""
    from ..imaging.overlays import overlay_groups, stored_words

    embedded = [group for group in overlay_groups(data) if (group, 0x3000) not in data]
    if not embedded:
        return 0
    if data.file_meta.TransferSyntaxUID.is_compressed:
        raise RefusedImage(name, "an overlay lies in the bits of compressed pixels, from which it cannot be taken")
    words = stored_words(data).copy()
    for group in embedded:
        words &= words.dtype.type(~(1 << int(data[group, 0x0102].value)) & ((1 << int(data.BitsAllocated)) - 1))
    data.PixelData = words.tobytes() + b"\0" * (words.nbytes % 2)
    return len(embedded)


def _identifiers(data: "pydicom.Dataset") -> re.Pattern | None:
    """What names the patient, to be looked for once more in what is left."""
    words = [str(data.get(keyword) or "").strip() for keyword in ("PatientID", "AccessionNumber")]
    words = [word for word in words if len(word) >= 5]
    words += [word for word in re.split(r"[\^=,\s]+", str(data.get("PatientName") or "")) if len(word) >= 4]
    if not words:
        return None
    found = "|".join(re.escape(word) for word in sorted(set(words)))
    return re.compile(rf"(?<!\w)(?:{found})(?!\w)", re.IGNORECASE)


def _scrub(data: "pydicom.Dataset", identifiers: re.Pattern | None) -> int:
    """Empties text that still holds the patient's own name or number, wherever somebody typed it."""
    found = 0

    def scrub(dataset, element):
        nonlocal found
        if element.VR in _TEXT and element.value and identifiers.search(str(element.value)):
            element.value = None
            found += 1

    if identifiers is not None:
        data.walk(scrub)
    return found


def _record_methods(data: "pydicom.Dataset", codes: list[str], masked: bool) -> None:
    from pydicom.dataset import Dataset

    data.PatientIdentityRemoved = "YES"
    data.LongitudinalTemporalInformationModified = "MODIFIED"
    if masked:
        data.BurnedInAnnotation = "NO"
    known = {str(item.get("CodeValue")) for item in data.get("DeidentificationMethodCodeSequence") or ()}
    items = list(data.get("DeidentificationMethodCodeSequence") or ())
    for code in codes:
        if code not in known:
            item = Dataset()
            item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "DCM", METHODS[code]
            items.append(item)
    data.DeidentificationMethodCodeSequence = items


def _renew_file_meta(data: "pydicom.Dataset") -> None:
    """The preamble and the optional elements of group 2 may name a station or hold anything."""
    from pydicom.dataset import FileMetaDataset

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = data.file_meta.TransferSyntaxUID
    meta.MediaStorageSOPClassUID = data.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta = meta
    data.preamble = b"\0" * 128
