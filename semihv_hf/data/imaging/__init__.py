"""Clinical image files to plain 8-bit pixels: DICOM, NIfTI, NRRD, TIFF, whole-slide regions, JPEG and PNG.

Only pixels, and facts that name no person, leave these modules. A file that cannot be read raises [`UnreadableImage`]
with the reason; nothing is ever put in its place.
"""

from .dicom import read_dicom
from .dicom_display import RenderedDicom, render_dicom
from .dicom_facts import dicom_facts
from .encoding import content_share, encode_png, fit_pixels
from .files import read_picture
from .slices import evenly_spaced, slices_of_mask, slices_with_content
from .slides import Region, Slide
from .unreadable import UnreadableImage
from .volumes import PLANES, Volume, canonical_volume, plane_slice, plane_spacing, read_nifti, read_nrrd
from .windows import CT_WINDOWS, apply_voi_function, apply_window, dicom_window, to_8bit

__all__ = [
    "CT_WINDOWS",
    "PLANES",
    "Region",
    "RenderedDicom",
    "Slide",
    "UnreadableImage",
    "Volume",
    "apply_voi_function",
    "apply_window",
    "canonical_volume",
    "content_share",
    "dicom_facts",
    "dicom_window",
    "encode_png",
    "evenly_spaced",
    "fit_pixels",
    "plane_slice",
    "plane_spacing",
    "read_dicom",
    "read_nifti",
    "read_nrrd",
    "read_picture",
    "render_dicom",
    "slices_of_mask",
    "slices_with_content",
    "to_8bit",
]
