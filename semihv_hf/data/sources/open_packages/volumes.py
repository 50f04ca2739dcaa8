"""The volumes: MNI152 maps, functional MRI, and two patients each of brain MRI and chest CT."""

from .entries import Span, VolumeEntry

# The same slabs, in millimetres, are cut from the three MNI152 maps, because they show one and the same anatomy.
# Only the left half is used for sagittal slices: the template is symmetric, so a right slice repeats a left one.
_MNI_EXTENT = {"axial": (-62.0, 78.0), "coronal": (-100.0, 70.0), "sagittal": (-68.0, 0.0)}
_MNI_SPANS = (
    (0.0, 0.095, "train"),
    (0.13, 0.21, "test"),
    (0.245, 0.33, "train"),
    (0.365, 0.425, "validation"),
    (0.46, 0.54, "test"),
    (0.575, 0.755, "train"),
    (0.79, 0.87, "test"),
    (0.905, 1.0, "train"),
)
_MNI_SAGITTAL = ((0.0, 0.30, "train"), (0.37, 0.47, "validation"), (0.54, 0.72, "test"), (0.80, 1.0, "train"))
_EPI_SPANS = ((0.0, 0.36, "train"), (0.45, 0.56, "test"), (0.65, 0.71, "validation"), (0.80, 1.0, "train"))
_PATIENT_1 = ((0.0, 0.14, "train"), (0.21, 0.33, "validation"), (0.40, 1.0, "train"))
_ALL_TEST = ((0.0, 1.0, "test"),)
_PLANES = ("axial", "coronal", "sagittal")


def _mni(kind: str, name: str, sequence: str, loader: str, factor: float) -> VolumeEntry:
    doc = f"package documentation: nilearn.datasets.{loader}"
    return VolumeEntry(
        kind=kind,
        package="nilearn",
        path=f"nilearn/datasets/data/mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz",
        group="MNI152",
        facts=(("modality", "MRI", doc), ("body_part", "brain", doc), ("sequence", sequence, doc)),
        spans={"axial": _MNI_SPANS, "coronal": _MNI_SPANS, "sagittal": _MNI_SAGITTAL},
        step_mm={"axial": 2.0 * factor, "coronal": 2.5 * factor, "sagittal": 2.0 * factor},
        extent_mm=_MNI_EXTENT,
        levels=("axial", "coronal"),
    )


def _tumour_mr(patient: str, spans: tuple[Span, ...], steps: tuple[float, float, float]) -> VolumeEntry:
    source = f"package test case {patient}, its image and label files"
    return VolumeEntry(
        kind="tumour MR",
        package="pyradiomics",
        path=f"pyradiomics-3.0.1/data/{patient}_image.nrrd",
        group=f"pyradiomics {patient}",
        facts=(("modality", "MRI", source), ("body_part", "brain", source)),
        spans=dict.fromkeys(_PLANES, spans),
        step_mm=dict(zip(_PLANES, steps, strict=True)),
        mask=f"pyradiomics-3.0.1/data/{patient}_label.nrrd",
        levels=("axial",),
    )


def _chest_ct(patient: str, spans: tuple[Span, ...], steps: tuple[float, float, float], per_slice: int) -> VolumeEntry:
    source = f"package test case {patient}, its image file in Hounsfield units"
    return VolumeEntry(
        kind="chest CT",
        package="pyradiomics",
        path=f"pyradiomics-3.0.1/data/{patient}_image.nrrd",
        group=f"pyradiomics {patient}",
        facts=(("modality", "CT", source), ("body_part", "chest", source)),
        spans=dict.fromkeys(_PLANES, spans),
        step_mm=dict(zip(_PLANES, steps, strict=True)),
        windows=("lung window", "soft tissue window", "bone window"),
        windows_per_slice=per_slice,
        mask=f"pyradiomics-3.0.1/data/{patient}_label.nrrd",
        levels=("axial",),
    )


def volumes() -> tuple[VolumeEntry, ...]:
    """The volumes.

    Returns:
        `tuple[VolumeEntry, ...]`: with their slabs.
    """
    epi = "package documentation: nibabel.testing data example4d (functional MRI time series)"
    return (
        _mni("T1 template", "t1", "T1-weighted image", "load_mni152_template", 1.0),
        _mni("grey matter map", "gm", "grey matter map", "load_mni152_gm_template", 1.5),
        _mni("white matter map", "wm", "white matter map", "load_mni152_wm_template", 1.5),
        VolumeEntry(
            kind="EPI brain",
            package="nibabel",
            path="nibabel/tests/data/example4d.nii.gz",
            group="nibabel example4d",
            facts=(("modality", "MRI", epi), ("body_part", "brain", epi)),
            spans=dict.fromkeys(_PLANES, _EPI_SPANS),
            step_mm={"axial": 2.2, "coronal": 5.0, "sagittal": 4.0},
        ),
        _tumour_mr("brain1", _PATIENT_1, (6.5, 6.0, 6.0)),
        _tumour_mr("brain2", _ALL_TEST, (6.5, 9.0, 9.0)),
        _chest_ct("lung1", _PATIENT_1, (5.0, 12.0, 14.0), 2),
        _chest_ct("lung2", _ALL_TEST, (5.0, 16.0, 20.0), 1),
    )
