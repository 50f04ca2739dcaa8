"""What the files of a source state about an image, in lines for a reader: `body part: liver`."""

from collections.abc import Iterable

# Facts from which one learns what is seen, and from what kind of image; sizes, spacings and links are none.
SEEN = (
    "modality",
    "modalities",
    "body_part",
    "sequence",
    "phase",
    "plane",
    "view",
    "window",
    "stain",
    "level",
    "label",
    "lesion",
    "finding",
    "diagnosis",
    "location",
    "pathology",
)
# What whoever writes about the very image needs beside them.
ABOUT_ONE = (
    *(name for name in SEEN if name != "diagnosis"),
    "magnification",
    "diameters_mm",
    "slice_thickness",
    "sex",
    "age",
)
_MM = "_mm"


def stated_lines(facts: Iterable[tuple[str, str]], names: Iterable[str]) -> list[str]:
    """Facts as lines.

    Args:
        facts (`Iterable[tuple[str, str]]`): names and values, in the order of the case.
        names (`Iterable[str]`): which facts.

    Returns:
        `list[str]`: such as `"diameters: 31 mm"`, each once.
    """
    wanted = frozenset(names)
    lines = (
        f"{name.removesuffix(_MM).replace('_', ' ')}: {value}{' mm' if name.endswith(_MM) else ''}"
        for name, value in facts
        if name in wanted
    )
    return list(dict.fromkeys(lines))
