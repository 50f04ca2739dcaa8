"""Short cases in the style of a clinical challenge, written for this project on images of the data set.

They are no clinical material: no patient stands behind a vignette. What an answer rests on is recorded with, or can
be seen in, the image.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from ..errors import SemiHVError
from .messages import message
from .schema import Case, Provenance, QuestionTurn, Record, content_id

NOTE = "written for this project; not clinical material"
LETTERS = ("A", "B", "C", "D")
TEMPLATE = "jama_style"


def load_expert_cases() -> list[dict[str, Any]]:
    """The texts of the cases.

    Returns:
        `list[dict]`: `title`, `split`, `image`, `vignette`, `question`, `options`, `answer`, `discussion`, `fact`.

    Raises:
        `SemiHVError`: a case is not well formed.
    """
    import yaml

    cases = yaml.safe_load(files("semihv_hf.data").joinpath("expert_cases.yaml").read_text(encoding="utf-8"))
    for case in cases:
        options = case["options"]
        if tuple(options) != LETTERS or case["answer"] not in LETTERS or len(set(options.values())) != len(LETTERS):
            raise SemiHVError(
                f"Expert case {case['title']!r} needs four different options A to D and one of them as its answer.",
                "Correct expert_cases.yaml.",
            )
    return cases


def expert_records(cases: Sequence[Case], kinds: Mapping[str, str]) -> list[Record]:
    """The expert cases whose image is among the given cases.

    Args:
        cases (`Sequence[Case]`): the cases of one split.
        kinds (`Mapping[str, str]`): the image kind of each case id.

    Returns:
        `list[Record]`: records of task `"case"`, in the order of the file. A case without an image is left out.
    """
    records = []
    for text in load_expert_cases():
        found = _find(text, cases, kinds)
        if found is not None:
            records.append(_record(text, found))
    return records


def expert_cases_without_image(records: Sequence[Record]) -> list[str]:
    """Which cases found no image, as happens in a build that is limited.

    Args:
        records (`Sequence[Record]`): the records of all splits.

    Returns:
        `list[str]`: their titles.
    """
    written = {record.provenance[0].prompt_version for record in records}
    return [text["title"] for text in load_expert_cases() if text["title"] not in written]


def _find(text: Mapping[str, Any], cases: Sequence[Case], kinds: Mapping[str, str]) -> Case | None:
    wanted = text["image"]
    fits = [
        case
        for case in cases
        if case.split == text["split"]
        and kinds[case.id] == wanted["kind"]
        and wanted.get("path", "") in case.source_id
        and all(case.fact(name) and case.fact(name).value == value for name, value in wanted.get("facts", {}).items())
    ]
    fits.sort(key=lambda case: (len(case.source_id), case.source_id))
    return fits[int(wanted.get("pick", 0.5) * (len(fits) - 1))] if fits else None


def _record(text: Mapping[str, Any], case: Case) -> Record:
    options = text["options"]
    listed = "\n".join(f"{letter}. {options[letter]}" for letter in LETTERS)
    prompt = f"{text['vignette'].strip()}\n{text['question'].strip()}\n{listed}"
    answer = f"Answer: {text['answer']}. {options[text['answer']]}. {text['discussion'].strip()}"
    messages = [message("user", prompt, len(case.images)), message("assistant", answer)]
    fact = case.fact(text["fact"])
    evidence = [NOTE] + ([f"{fact.name}: {fact.value} ({fact.source})"] if fact else [])
    source = fact.source if fact else NOTE
    question = QuestionTurn(0, TEMPLATE, "closed", list(LETTERS), text["fact"], source)
    wrote = [Provenance(f"messages[{index}]", "", text["title"], evidence) for index in (0, 1)]
    modality = case.fact("modality")
    return Record(
        content_id(case.id, "case", prompt), case.id, case.source, case.source_id, case.licence, case.images, messages,
        ["human", "human"], "case", modality.value if modality else "unknown", case.facts, [question], wrote,
    )  # fmt: skip
