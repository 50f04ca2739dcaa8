"""Training records: captions for alignment, conversations of several turns for instruction tuning."""

import random
from collections.abc import Iterator, Sequence

from .messages import message, message_text
from .questions import PROMPT_VERSION, Asked, Questions, caption
from .schema import Case, Provenance, Record, content_id

CONVERSATIONS_PER_IMAGE = 3
TURNS = 4
EXTRA_YES_NO = 2
OPEN_SHARE = 0.15
# Saying yes or no to a stated value is the hardest thing to learn, and half of the benchmark's closed questions.
YES_NO_SHARE = 0.6


def alignment_record(case: Case) -> Record:
    """One image with its caption.

    Args:
        case ([`Case`]): the case.

    Returns:
        [`Record`]: a record of task `"caption"`.
    """
    text = caption(case)
    messages = [message("user", "Describe the image.", len(case.images)), message("assistant", text)]
    evidence = [f"{fact.name}: {fact.value} ({fact.source})" for fact in case.facts]
    wrote = [
        Provenance("messages[0]", prompt_version=PROMPT_VERSION),
        Provenance("messages[1]", prompt_version=PROMPT_VERSION, evidence=evidence),
    ]
    return _record(case, "caption", messages, [], wrote)


def question_record(case: Case, asked: Sequence[Asked]) -> Record:
    """A conversation about one image, one turn a question.

    Args:
        case ([`Case`]): the case.
        asked (`Sequence[Asked]`): the questions in order.

    Returns:
        [`Record`]: a record of task `"vqa"`.
    """
    messages, questions, wrote = [], [], []
    for index, item in enumerate(asked):
        messages.append(message("user", item.text, len(case.images) if index == 0 else 0))
        messages.append(message("assistant", item.answer))
        questions.append(item.question(2 * index))
        evidence = [f"{item.fact.name}: {item.fact.value} ({item.fact.source})"]
        wrote.append(Provenance(f"messages[{2 * index}]", prompt_version=PROMPT_VERSION))
        wrote.append(Provenance(f"messages[{2 * index + 1}]", prompt_version=PROMPT_VERSION, evidence=evidence))
    return _record(case, "vqa", messages, questions, wrote)


def instruction_records(case: Case, questions: Questions, seed: int) -> Iterator[Record]:
    """Several conversations about one image, each asking about different facts in an order of chance.

    Args:
        case ([`Case`]): a training case.
        questions ([`Questions`]): what can be asked.
        seed (`int`): the source of chance, together with the case.

    Yields:
        [`Record`]: records of task `"vqa"`; conversations that would repeat an earlier one are left out.
    """
    rng = random.Random(f"{seed}:instruction:{case.id}")
    by_fact: dict[str, dict[str, list]] = {}
    for template in questions.applicable(case):
        by_fact.setdefault(template.fact, {}).setdefault(template.form, []).append(template)
    seen = set()
    for _ in range(CONVERSATIONS_PER_IMAGE):
        names = [name for name in sorted(by_fact) if rng.random() < _share(case, by_fact[name], name, questions)]
        rng.shuffle(names)
        asked = [_ask(case, by_fact[name], questions, rng) for name in names[:TURNS]]
        asked += _more_yes_no(case, by_fact, names, asked, questions, rng)
        rng.shuffle(asked)
        key = tuple(sorted(item.text for item in asked))
        if asked and key not in seen:
            seen.add(key)
            yield question_record(case, asked)


def _share(case: Case, forms: dict[str, list], name: str, questions: Questions) -> float:
    """How often a fact is asked about. One that only yes and no answer (a lesion) is asked less often where the
    commoner answer holds, so that both are heard equally often; elsewhere the asked value sees to that."""
    if set(forms) != {"yes_no"}:
        return 1.0
    counts = questions.counts[name]
    return min(counts.values()) / counts[case.fact(name).value]


def _ask(case: Case, forms: dict[str, list], questions: Questions, rng: random.Random) -> Asked:
    weights = {"open": OPEN_SHARE, "choice": 1 - OPEN_SHARE - YES_NO_SHARE, "yes_no": YES_NO_SHARE}
    available = [form for form in weights if form in forms]
    form = rng.choices(available, [weights[form] for form in available])[0]
    template = rng.choice(forms[form])
    wording = _wording(template, rng)
    if form == "open":
        return questions.open(case, template, wording)
    if form == "choice":
        return questions.choice(case, template, wording, rng)
    return _ask_yes_no(case, template, questions, rng)


def _wording(template, rng: random.Random) -> str:
    """The benchmark's wording in two of three turns, a paraphrase in the others."""
    return template.wordings[0] if rng.random() < 2 / 3 else rng.choice(template.wordings)


def _ask_yes_no(case: Case, template, questions: Questions, rng: random.Random) -> Asked:
    own = case.fact(template.fact).value
    value = own if rng.random() < 0.5 else questions.other_value(case, template, rng)
    return questions.yes_no(case, template, value, _wording(template, rng))


def _more_yes_no(case, by_fact, names, asked, questions, rng) -> list[Asked]:
    """Further stated values for facts of the conversation; none is asked twice in the same words."""
    able = [name for name in names[:TURNS] if len(by_fact[name]) > 1 and "yes_no" in by_fact[name]]
    texts, more = {item.text for item in asked}, []
    for name in rng.sample(able, min(EXTRA_YES_NO, len(able))):
        item = _ask_yes_no(case, rng.choice(by_fact[name]["yes_no"]), questions, rng)
        if item.text not in texts:
            texts.add(item.text)
            more.append(item)
    return more


def _record(case: Case, task: str, messages: list, questions: list, provenance: list) -> Record:
    modality = case.fact("modality")
    identity = content_id(case.id, task, *map(message_text, messages))
    return Record(
        identity, case.id, case.source, case.source_id, case.licence, case.images, messages,
        ["rule"] * len(messages), task,
        modality.value if modality else "unknown", case.facts, questions, provenance,
    )  # fmt: skip
