"""The held-out questions: single-question records, balanced so that the commonest answer of a template says little."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from .questions import Asked, Questions, Template, overlap, templates
from .records import question_record
from .schema import Case, Record

QUESTIONS_PER_IMAGE = 3
ROWS_PER_CELL = 2  # rows of one template, answer and image kind
ROWS_PER_ANSWER = 12  # rows of one template and answer, over all kinds
PAIRS_PER_VALUE = 5  # yes/no rows that ask about one value: so many with "yes", as many with "no"
ROWS_PER_LEVEL = 5  # the level is the hardest question and must not outweigh the others


def benchmark_records(
    cases: Sequence[Case],
    kinds: Mapping[str, str],
    questions: Questions,
    seed: int,
    *,
    rows_per_cell: int = ROWS_PER_CELL,
) -> list[Record]:
    """Chooses and asks the questions of one held-out split.

    Yes/no questions are balanced for each value that they ask about: as many images that have it as images that
    have not, so the wording alone decides nothing.

    Args:
        cases (`Sequence[Case]`): the cases of the split.
        kinds (`Mapping[str, str]`): the image kind of each case id.
        questions ([`Questions`]): what can be asked, from the training split.
        seed (`int`): the source of chance.
        rows_per_cell (`int`, *optional*, defaults to 2): at most so many rows of one template, answer and image kind.

    Returns:
        `list[Record]`: sorted by id; each asks one question.
    """
    builder = _Builder(cases, kinds, questions, seed, rows_per_cell)
    order = {"choice": 0, "yes_no": 1, "open": 2}
    rare = Counter(fact.name for case in cases for fact in case.facts)
    # Facts that few images state choose first: the others find images anyway.
    for template in sorted(templates(), key=lambda item: (order[item.form], rare[item.fact], item.name)):
        if template.form == "yes_no":
            builder.add_yes_no(template)
        else:
            builder.add_plain(template)
    records = [question_record(case, [asked]) for case, asked in builder.rows]
    return sorted(records, key=lambda record: record.id)


class _Builder:
    def __init__(
        self, cases: Sequence[Case], kinds: Mapping[str, str], questions: Questions, seed: int, rows_per_cell: int
    ):
        self.cases = sorted(cases, key=lambda case: case.id)
        self.kinds = kinds
        self.questions = questions
        self.seed = seed
        self.rows_per_cell = rows_per_cell
        self.used: Counter[str] = Counter()
        self.cells: Counter[tuple[str, str, str]] = Counter()
        self.rows: list[tuple[Case, Asked]] = []

    def _candidates(self, template: Template) -> list[Case]:
        """Cases that the template applies to, kinds in turn, the least used images of a kind first."""
        able = [case for case in self.cases if template in self.questions.applicable(case)]
        rng = random.Random(f"{self.seed}:benchmark:{template.name}")
        rng.shuffle(able)
        able.sort(key=lambda case: self.used[case.id])
        place: Counter[str] = Counter()
        turns = []
        for case in able:
            kind = self.kinds[case.id]
            turns.append((place[kind], kind, case))
            place[kind] += 1
        return [case for _, _, case in sorted(turns, key=lambda turn: turn[:2])]

    def _fits(self, template: Template, case: Case, answer: str) -> bool:
        cell = (template.name, answer, self.kinds[case.id])
        return self.used[case.id] < QUESTIONS_PER_IMAGE and self.cells[cell] < self.rows_per_cell

    def _take(self, case: Case, asked: Asked) -> None:
        self.used[case.id] += 1
        self.cells[asked.template.name, asked.answer, self.kinds[case.id]] += 1
        self.rows.append((case, asked))

    def add_plain(self, template: Template) -> None:
        answers: Counter[str] = Counter()
        most = ROWS_PER_LEVEL if template.fact == "level" else ROWS_PER_ANSWER
        for case in self._candidates(template):
            value = case.fact(template.fact).value
            if answers[value] < most and self._fits(template, case, value):
                answers[value] += 1
                if template.form == "open":
                    asked = self.questions.open(case, template, template.wordings[0])
                else:
                    rng = random.Random(f"{self.seed}:{template.name}:{case.id}")
                    asked = self.questions.choice(case, template, template.wordings[0], rng)
                self._take(case, asked)

    def add_yes_no(self, template: Template) -> None:
        candidates = self._candidates(template)
        values = sorted({case.fact(template.fact).value for case in candidates})
        if template.fact == "lesion":
            values = ["visible"]
        for value in values:
            having = [case for case in candidates if case.fact(template.fact).value == value]
            lacking = [case for case in candidates if _lacks(case.fact(template.fact).value, value)]
            self._add_pairs(template, value, having, lacking)

    def _add_pairs(self, template: Template, value: str, having: list[Case], lacking: list[Case]) -> None:
        pairs = 0
        while pairs < PAIRS_PER_VALUE:
            yes = next((case for case in having if self._fits(template, case, "yes")), None)
            no = next((case for case in lacking if self._fits(template, case, "no")), None)
            if yes is None or no is None:
                return
            for case, others in ((yes, having), (no, lacking)):
                self._take(case, self.questions.yes_no(case, template, value, template.wordings[0]))
                others.remove(case)
            pairs += 1


def _lacks(own: str, asked: str) -> bool:
    return own != asked and not overlap(own, asked)
