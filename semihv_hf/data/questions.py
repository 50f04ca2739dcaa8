"""Questions about an image, made from its facts by templates: closed ones name their answers, open ones do not."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .schema import Case, Fact, QuestionTurn

PROMPT_VERSION = "question templates 1"

# How a value reads inside a yes/no question.
_PHRASES = {
    "modality": {
        "MRI": "an MRI",
        "CT": "a CT scan",
        "X-ray": "an X-ray",
        "ultrasound": "an ultrasound image",
        "scintigraphy": "a scintigraphy image",
        "fundus photograph": "a fundus photograph",
        "histology": "a histology image",
        "fluorescence microscopy": "a fluorescence microscopy image",
        "electron microscopy": "an electron microscopy image",
        "photograph": "an ordinary photograph",
    },
    "plane": {"axial": "an axial slice", "coronal": "a coronal slice", "sagittal": "a sagittal slice"},
    "sequence": {
        "T1-weighted image": "a T1-weighted image",
        "grey matter map": "a grey matter map",
        "white matter map": "a white matter map",
    },
}
_BARE = ("skin", "colon", "cell nuclei")
# Values of one fact that can both be true of an image: neither is offered as a wrong answer for the other.
_OVERLAPS = (
    {"brain", "head"},
    {"head", "neck"},
    {"chest", "heart"},
    {"chest", "abdomen"},
    {"chest", "shoulder"},
    {"extremity", "shoulder"},
    {"skin", "cell nuclei"},
    {"colon", "cell nuclei"},
    {"photograph", "fundus photograph"},
)


# Per fact and form; the first wording is the benchmark's.
_WORDINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "modality": {
        "yes_no": ("Is this {value}?", "Is {value} shown here?", "Does this look like {value}?"),
        "choice": (
            "Which modality is this: {options}?",
            "Pick the modality: {options}?",
            "What kind of image is this: {options}?",
        ),
        "open": ("What imaging modality is this?", "Which modality was used?", "How was this image made?"),
    },
    "body_part": {
        "yes_no": ("Does this image show {value}?", "Is {value} shown?", "Do you see {value} here?"),
        "choice": ("Which is shown: {options}?", "What does this image show: {options}?"),
        "open": ("Which body part or specimen is shown?", "What body part or specimen is this?"),
    },
    "plane": {
        "yes_no": ("Is this {value}?", "Does this image show {value}?"),
        "choice": ("Which plane is this: {options}?", "Pick the plane: {options}?"),
        "open": ("In which plane was this slice taken?", "What is the plane of this slice?"),
    },
    "stain": {
        "yes_no": ("Is the stain {value}?", "Was {value} used as the stain?"),
        "choice": ("Which stain is this: {options}?", "Pick the stain: {options}?"),
        "open": ("Which stain was used?", "How was this tissue stained?"),
    },
    "sequence": {
        "yes_no": ("Is this {value}?", "Is {value} shown?"),
        "choice": ("Which brain image is this: {options}?", "Pick what is mapped: {options}?"),
    },
    "window": {
        "yes_no": ("Is this CT shown in a {value}?", "Is a {value} used?"),
        "choice": ("Which CT window is this: {options}?", "Pick the CT window: {options}?"),
    },
    "lesion": {
        "yes_no": ("Is a lesion visible in this slice?", "Does this slice show a lesion?"),
    },
    "level": {
        "choice": ("Which third of the volume is this: {options}?", "Pick the level of this slice: {options}?"),
    },
}


@dataclass(frozen=True)
class Template:
    """One way to ask about one fact.

    Args:
        name (`str`): the name that rows and result tables carry.
        fact (`str`): the fact that decides the answer.
        form (`str`): `"yes_no"`, `"choice"` or `"open"`.
        wordings (`tuple[str, ...]`): the first is the benchmark's, all are used in training. `{value}` is the value
            that a yes/no question asks about, `{options}` the list that a choice names.
        most_options (`int`, *optional*, defaults to 3): how many options a choice names at most.
    """

    name: str
    fact: str
    form: str
    wordings: tuple[str, ...]
    most_options: int = 3


@dataclass(frozen=True)
class Asked:
    """A question with its answer.

    Args:
        template ([`Template`]): how it is asked.
        text (`str`): the question.
        answer (`str`): the answer.
        options (`tuple[str, ...]`): the possible answers of a closed question, in the order in which it names them.
        fact ([`Fact`]): what decides the answer.
        value (`str`): the value that is asked about; the fact's own unless the answer is "no".
    """

    template: Template
    text: str
    answer: str
    options: tuple[str, ...]
    fact: Fact
    value: str

    def question(self, turn: int) -> QuestionTurn:
        """What a record keeps about the question.

        Args:
            turn (`int`): the index of the user message that asks it.

        Returns:
            [`QuestionTurn`]: the entry of `Record.questions`.
        """
        kind = "open" if self.template.form == "open" else "closed"
        return QuestionTurn(turn, self.template.name, kind, list(self.options), self.fact.name, self.fact.source)


def templates() -> tuple[Template, ...]:
    """All templates.

    Returns:
        `tuple[Template, ...]`: in a fixed order.
    """
    return tuple(
        Template(f"{fact}_{form}", fact, form, wordings)
        for fact, forms in _WORDINGS.items()
        for form, wordings in forms.items()
    )


class Questions:
    """Asks about cases; the values that other images really have are the distractors.

    Args:
        cases (`Sequence[Case]`): the cases whose values may be named, normally those of the training split.
    """

    def __init__(self, cases: Sequence[Case]):
        counts: dict[str, dict[str, int]] = {}
        for case in cases:
            for fact in case.facts:
                values = counts.setdefault(fact.name, {})
                values[fact.value] = values.get(fact.value, 0) + 1
        self.counts: Mapping[str, Mapping[str, int]] = {
            name: dict(sorted(values.items())) for name, values in sorted(counts.items())
        }

    def applicable(self, case: Case, form: str | None = None) -> list[Template]:
        """The templates that the facts of a case can decide.

        Args:
            case ([`Case`]): the case.
            form (`str`, *optional*): only this form.

        Returns:
            `list[Template]`: in the order of [`templates`].
        """
        found = []
        for template in templates():
            fact = case.fact(template.fact)
            if fact is None or (form is not None and template.form != form):
                continue
            if template.form == "open" or len(self.domain(fact)) > 1:
                found.append(template)
        return found

    def domain(self, fact: Fact) -> list[str]:
        """The values that may be named together with a fact's own.

        Args:
            fact ([`Fact`]): the fact.

        Returns:
            `list[str]`: sorted, with the fact's own value.
        """
        values = set(self.counts.get(fact.name, {})) | {fact.value}
        if fact.name == "level":
            # "lower" and "posterior" belong to different planes: one question offers the thirds of one axis only.
            axial = {"lower third", "upper third"}
            if fact.value != "middle third":
                values &= (axial if fact.value in axial else values - axial) | {"middle third"}
            else:
                values &= axial | {"middle third"} if "superior" in fact.source else values - axial
        return sorted(value for value in values if not overlap(value, fact.value))

    def yes_no(self, case: Case, template: Template, value: str, wording: str) -> Asked:
        """A yes/no question.

        Args:
            case ([`Case`]): the case.
            template ([`Template`]): a yes/no template that applies to it.
            value (`str`): the value to ask about.
            wording (`str`): one of the template's wordings.

        Returns:
            [`Asked`]: the question.
        """
        fact = _fact(case, template)
        asked = value if template.fact != "lesion" else "visible"
        text = wording.replace("{value}", _phrase(template.fact, asked))
        return Asked(template, text, "yes" if fact.value == asked else "no", ("yes", "no"), fact, asked)

    def other_value(self, case: Case, template: Template, rng: random.Random) -> str:
        """A value that other images have and this one has not, drawn as often as it occurs.

        Args:
            case ([`Case`]): the case.
            template ([`Template`]): the template.
            rng (`random.Random`): the source of chance.

        Returns:
            `str`: the value.
        """
        fact = _fact(case, template)
        others = [value for value in self.domain(fact) if value != fact.value]
        # As often as it occurs: then the wording of a question alone does not give the answer away.
        return rng.choices(others, [self.counts[fact.name].get(value, 1) for value in others])[0]

    def choice(self, case: Case, template: Template, wording: str, rng: random.Random) -> Asked:
        """A question that names its options, in an order of chance.

        Args:
            case ([`Case`]): the case.
            template ([`Template`]): a choice template that applies to it.
            wording (`str`): one of the template's wordings.
            rng (`random.Random`): the source of chance.

        Returns:
            [`Asked`]: the question.
        """
        fact = _fact(case, template)
        others = [value for value in self.domain(fact) if value != fact.value]
        options = [fact.value, *rng.sample(others, min(template.most_options - 1, len(others)))]
        rng.shuffle(options)
        return Asked(
            template, wording.replace("{options}", _listed(options)), fact.value, tuple(options), fact, fact.value
        )

    def open(self, case: Case, template: Template, wording: str) -> Asked:
        """A question that does not name its answers.

        Args:
            case ([`Case`]): the case.
            template ([`Template`]): an open template that applies to it.
            wording (`str`): one of the template's wordings.

        Returns:
            [`Asked`]: the question.
        """
        fact = _fact(case, template)
        return Asked(template, wording, fact.value, (), fact, fact.value)


def overlap(one: str, other: str) -> bool:
    """Whether two different values can both be true of one image, as "heart" and "chest" can.

    Args:
        one (`str`): a value of a fact.
        other (`str`): another value of the same fact.

    Returns:
        `bool`: `True` when the one does not rule out the other.
    """
    return {one, other} in _OVERLAPS


def caption(case: Case) -> str:
    """One sentence from the facts.

    Args:
        case ([`Case`]): the case.

    Returns:
        `str`: for example `"MRI of the brain, axial slice, upper third."`.
    """
    values = {fact.name: fact.value for fact in case.facts}
    parts = [values.get("modality", "Medical image")]
    if "body_part" in values:
        parts[0] += f" of {_phrase('body_part', values['body_part'])}"
    if "sequence" in values:
        parts.append(values["sequence"])
    if "plane" in values:
        parts.append(f"{values['plane']} slice")
    if "level" in values:
        parts.append(values["level"])
    if "window" in values:
        parts.append(values["window"])
    if "stain" in values:
        parts.append(f"{values['stain']} stain")
    if values.get("lesion") == "visible":
        parts.append("with a visible lesion")
    text = ", ".join(parts) + "."
    return text[0].upper() + text[1:]


def _fact(case: Case, template: Template) -> Fact:
    fact = case.fact(template.fact)
    if fact is None:
        raise ValueError(f"case {case.id} states no {template.fact}, which {template.name} asks about")
    return fact


def _phrase(name: str, value: str) -> str:
    if name == "body_part":
        return value if value in _BARE else f"the {value}"
    return _PHRASES.get(name, {}).get(value, value)


def _listed(options: Sequence[str]) -> str:
    if len(options) == 2:
        return " or ".join(options)
    return ", ".join(options[:-1]) + ", or " + options[-1]
