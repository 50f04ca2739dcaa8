"""The DICOM stills and cines."""

from .entries import DicomEntry


def dicoms() -> tuple[DicomEntry, ...]:
    """The stills and cines.

    Returns:
        `tuple[DicomEntry, ...]`: with the split of each.
    """
    own, data = "pydicom/data/test_files/", "data_store/data/"
    echo = ((0.10, 0.02, 0.90, 0.88), (0.24, 0.10, 0.78, 0.80))
    parts, placed = ("modality", "body_part"), ("modality", "plane")
    every = ("modality", "body_part", "plane")
    head = ("bone window", "brain window")
    return (
        DicomEntry("ultrasound", "pydicom-data", data + "color3d_jpeg_baseline.dcm", "SonoSite cine", "train",
                   frame_step=8, crops=echo),
        DicomEntry("ultrasound", "pydicom-data", data + "gdcm-US-ALOKA-16.dcm", "ALOKA still", "validation",
                   crops=((0.02, 0.14, 0.49, 0.70), (0.51, 0.14, 0.98, 0.70), (0.10, 0.2, 0.45, 0.64),
                          (0.56, 0.2, 0.92, 0.64))),
        DicomEntry("ultrasound", "pydicom-data", data + "JPGLosslessP14SV1_1s_1f_8b.dcm", "Philips still", "train",
                   crops=((0.18, 0.14, 0.86, 0.84), (0.30, 0.20, 0.74, 0.70))),
        DicomEntry("ultrasound", "pydicom-data", data + "US1_UNCR.dcm", "GE still", "train",
                   crops=((0.16, 0.20, 0.86, 0.62), (0.16, 0.20, 0.52, 0.62), (0.50, 0.20, 0.86, 0.62))),
        DicomEntry("ultrasound", "deid-data", "deid-data-0.0.20/deid_data/data/ultrasounds/ultrasound-multiframe.dcm",
                   "Philips cine", "test", (("body_part", "heart", "DICOM (0008,1030) Study Description"),),
                   frame_step=4, crops=((0.08, 0.06, 0.86, 0.90), (0.20, 0.16, 0.76, 0.82))),
        DicomEntry("ultrasound", "pydicom-data", data + "color-pl.dcm", "Acme still", "train",
                   (("body_part", "heart", "DICOM (0008,103E) Series Description"),),
                   crops=((0.0, 0.0, 0.92, 1.0), (0.15, 0.05, 0.8, 0.95))),
        DicomEntry("body CT", "pydicom", own + "J2K_pixelrep_mismatch.dcm", "CT head 1", "train", tags=every,
                   windows=head),
        DicomEntry("body CT", "pydicom", own + "CT_small.dcm", "CT small", "train", tags=placed,
                   windows=("soft tissue window", "bone window")),
        # Its tag says NECK, but the slice shows a vertebra with ribs and no neck: the body part is not stated.
        DicomEntry("body CT", "pydicom-data", data + "bad_sequence.dcm", "CT spine", "train", tags=placed,
                   windows=("soft tissue window", "bone window")),
        DicomEntry("body CT", "pydicom-data", data + "693_UNCR.dcm", "CT head 2", "test", tags=placed, windows=head),
        DicomEntry("body CT", "pydicom-data", data + "explicit_VR-UN.dcm", "CT pancreas", "test", tags=placed,
                   windows=("soft tissue window", "lung window")),
        DicomEntry("body MR", "pydicom-data", data + "MR-SIEMENS-DICOM-WithOverlays.dcm", "MR abdomen", "train",
                   tags=every),
        DicomEntry("body MR", "pydicom-data", data + "MR2_UNCR.dcm", "MR shoulder", "train",
                   (("body_part", "shoulder", "DICOM (0008,1030) Study Description"),)),
        DicomEntry("body MR", "pydicom", own + "MR_small.dcm", "MR small", "train"),
        DicomEntry("body MR", "pydicom-data", data + "emri_small.dcm", "MR head", "train", tags=parts, frame_step=3),
        # Cut off in the middle of its pixels: it stays in the list so that every build shows how that is reported.
        DicomEntry("body MR", "pydicom", own + "MR_truncated.dcm", "MR small", "train"),
    )  # fmt: skip
