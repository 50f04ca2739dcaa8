"""Cases of every kind of source, small and made up, for the tests of generation."""

import io

import numpy as np
from PIL import Image

from semihv_hf.curation.generation import Demonstration
from semihv_hf.data.schema import Case, Evidence, Fact, Label, Text, case_id


def png(seed: int, size: int = 24) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def case(source: str, texts=(), facts=(), images: int = 1, seed: int = 0, labels=()) -> Case:
    pictures = [png(seed * 100 + number) for number in range(images)]
    where = f"row {seed}"
    identity = case_id(source, where, pictures)
    return Case(
        identity, source, where, f"patient {seed}", "train", "CC-BY-4.0", pictures, list(facts), list(texts), [],
        list(labels),
    )  # fmt: skip


def eurorad(seed: int = 0) -> Case:
    return case(
        "eurorad",
        [
            Text("history", "A patient with flank pain.", "human"),
            Text("findings", "CT shows a solid mass of the left kidney, 4.2 cm in size. The vein is free.", "human"),
            Text("discussion", "Enhancement in the arterial phase speaks for renal cell carcinoma.", "human"),
            Text("diagnosis", "Renal cell carcinoma", "human"),
            Text("caption", "Axial CT, arterial phase: enhancing mass of the left kidney (arrow).", "human", image=0),
            Text("caption", "Coronal CT with the mass at the lower pole.", "human", image=2),
            Text("options", "A. one\nB. two", "machine"),
        ],
        [Fact("title", "A renal mass", "file"), Fact("modality", "CT", "file")],
        images=3,
        seed=seed,
    )  # fmt: skip


def quilt(seed: int = 1) -> Case:
    return case(
        "quilt",
        [Text("caption", "The glands here are crowded and back to back.", "machine", image=0)],
        [Fact("modality", "histology", "file"), Fact("row", "7", "file")],
        seed=seed,
    )  # fmt: skip


def padchest(seed: int = 2) -> Case:
    return case(
        "padchest",
        [
            Text("report", "cardiomegali . no se observ derram pleural", "human", "es"),
            Text("labels", "cardiomegaly", "human"),
        ],
        [Fact("modality", "X-ray", "file"), Fact("body_part", "chest", "file")],
        seed=seed,
    )  # fmt: skip


def lld(seed: int = 3) -> Case:
    return case(
        "lld_mmri",
        [],
        [Fact("modality", "MRI", "file"), Fact("label", "hepatic cyst", "file"), Fact("phase", "arterial", "file")],
        images=2,
        seed=seed,
    )  # fmt: skip


def pubmedvision(seed: int = 4) -> Case:
    text = "Chest radiograph with an opacity of the right upper lobe and volume loss."
    return case("pubmedvision", [Text("caption", text, "human"), Text("conversation", "{}", "machine")], seed=seed)


def biomed(seed: int = 5) -> Case:
    text = "Sagittal T2-weighted MRI of the lumbar spine. A disc protrusion narrows the canal at L4/5. "
    text += "The conus ends at L1. The marrow signal is homogeneous. No fracture line can be recognised anywhere."
    return case(
        "biomed_vital",
        [Text("caption", text, "human"), Text("mention", "The protrusion is shown in the figure.", "human")],
        labels=[Label("modality", "mri", "model", "prompt", "m")],
        seed=seed,
    )  # fmt: skip


def guideline() -> Evidence:
    text = "In patients with a focal liver lesion larger than 1 cm contrast-enhanced imaging in phases is advised."
    return Evidence("guidelines", "g1#0", "open_medicine", "MIT", "Focal liver lesions", 0.7, text, 0, len(text))


def similar() -> Evidence:
    text = "A well-defined lesion of the right lobe with peripheral nodular enhancement that fills in later on."
    return Evidence("cases", "c9", "pubmedvision", "Apache-2.0", "Case 9", 0.6, text, 0, len(text))


def demonstrations() -> tuple[Demonstration, ...]:
    return tuple(
        Demonstration(
            f"d{number}", "biomed_vital", modality, (png(900 + number),), f"A {modality} of somebody else.",
            (("What kind of image is it?", f"It is of the kind {modality}."), ("And what stands out?", "Little.")),
        )
        for number, modality in enumerate(("mri", "ct", "x-ray"))
    )  # fmt: skip
