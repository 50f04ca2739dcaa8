"""Grey values of any range to the 8 bits that are shown."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pydicom

# Centre and width in Hounsfield units, the usual presets.
CT_WINDOWS = {
    "lung window": (-600.0, 1500.0),
    "soft tissue window": (40.0, 400.0),
    "bone window": (500.0, 2000.0),
    "brain window": (40.0, 80.0),
}


def apply_window(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """Maps values to 8 bits through a window.

    Args:
        values (`numpy.ndarray`): values, for CT in Hounsfield units.
        center (`float`): the value shown as middle grey.
        width (`float`): the range shown between black and white.

    Returns:
        `numpy.ndarray`: `uint8`.
    """
    low = center - width / 2
    return (np.clip((values.astype(np.float32) - low) / width, 0, 1) * 255 + 0.5).astype(np.uint8)


def apply_voi_function(values: np.ndarray, center: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """Maps values to 8 bits as DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3 define it.

    Args:
        values (`numpy.ndarray`): values after the modality transformation.
        center (`float`): Window Center.
        width (`float`): Window Width; at least 1 for `"LINEAR"`, above 0 otherwise.
        function (`str`, *optional*, defaults to `"LINEAR"`): VOI LUT Function: `"LINEAR"`, `"LINEAR_EXACT"` or
            `"SIGMOID"`.

    Returns:
        `numpy.ndarray`: `uint8`.

    Raises:
        `ValueError`: the function is unknown or the width too small for it.
    """
    if function == "LINEAR" and width >= 1:
        if width == 1:  # the window is a threshold
            return np.where(values > center - 0.5, np.uint8(255), np.uint8(0))
        return apply_window(values, center - 0.5, width - 1)
    if function == "LINEAR_EXACT" and width > 0:
        return apply_window(values, center, width)
    if function == "SIGMOID" and width > 0:
        exponent = np.clip(-4 * (values.astype(np.float32) - center) / width, -80, 80)  # keeps exp finite
        return (255 / (1 + np.exp(exponent)) + 0.5).astype(np.uint8)
    raise ValueError(f"VOI LUT Function {function!r} with a width of {width} is not defined")


def to_8bit(values: np.ndarray, low: float = 0.5, high: float = 99.5) -> np.ndarray:
    """Maps values to 8 bits between two percentiles; 8-bit input is returned unchanged.

    Args:
        values (`numpy.ndarray`): any real values; those that are not finite become black, or white for plus infinity.
        low (`float`, *optional*, defaults to 0.5): the percentile shown as black.
        high (`float`, *optional*, defaults to 99.5): the percentile shown as white.

    Returns:
        `numpy.ndarray`: `uint8`.
    """
    if values.dtype == np.uint8:
        return values
    known = values
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        known = values[np.isfinite(values)]
        if not known.size:
            return np.zeros(values.shape, np.uint8)
        values = np.nan_to_num(values, nan=known.min(), posinf=known.max(), neginf=known.min())
    bottom, top = np.percentile(known, [low, high])
    width = max(float(top - bottom), 1e-6)
    return apply_window(values, bottom + width / 2, width)


def dicom_window(data: "pydicom.Dataset") -> tuple[float, float] | None:
    """The window that a DICOM object, or one item of its functional groups, asks to be shown with.

    Args:
        data (`pydicom.Dataset`): the object.

    Returns:
        `tuple[float, float]` or `None`: centre and width of the first window, when the object states one.
    """
    center, width = data.get("WindowCenter"), data.get("WindowWidth")
    if center is None or width is None:
        return None
    try:
        first = [
            float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)
            for value in (center, width)
        ]
    except (IndexError, ValueError):  # an element without a value
        return None
    return (first[0], first[1]) if first[1] > 1 else None
