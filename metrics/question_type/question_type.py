"""The share of knowledge and of inference questions in a benchmark, with every question's deciding rule."""

from collections import Counter

import datasets
import evaluate

from .question_judge import ask
from .question_judge import make_judge
from .question_rules import INFERENCE
from .question_rules import KNOWLEDGE
from .question_rules import classify
from .share_chart import draw_shares
from .share_statistics import agreement
from .share_statistics import share_of

_DESCRIPTION = """
Tells knowledge questions (one step: name what is visible, or recall a fact) from inference questions (combine the
findings of this case with clinical reasoning) and measures their shares. Rules decide first; a question that they
leave open stays open, or is given to a language model. The definition is this module's own.
"""

_CITATION = """
@article{wang2024semihvision,
  title={SemiHVision: Enhancing Medical Multimodal Models with a Semi-Human Annotated Dataset and Fine-Tuned
         Instruction Generation},
  author={Wang, Junda and Ting, Yujan and Chen, Eric Z. and Tran, Hieu and Yu, Hong and Huang, Weijing and
          Chen, Terrence},
  journal={arXiv preprint arXiv:2410.14948},
  year={2024}
}
"""

_KWARGS_DESCRIPTION = """
Args:
    questions (`list[str]`): the questions; the story of a case may stand before the question itself.
    contexts (`list[str | None]`, *optional*): the story of each case, where it is kept apart.
    options (`list[list[str]]`, *optional*): the options of each question; only the judge sees them.
    benchmarks (`list[str]`, *optional*): the benchmark of each question; adds `by_benchmark`.
    cases (`list[str]`, *optional*): the image or case of each question, for intervals that know that questions about
        one image belong together. Without it every question is a case of its own.
    judge (`semihv_hf.llm.ChatClient` or `semihv_hf.llm.ServerSettings`, *optional*): a language model that decides
    too.
    judge_cache (`str`, *optional*): with settings, the folder in which its replies are kept.
    judge_when (`str`, *optional*, defaults to `"undecided"`): which questions it is asked: those that the rules leave
        open, or `"all"`, after which its verdict counts and `judge` says how often the rules agree with it.
    sources (`list[str]`, *optional*): the names in the licence registry whose text the questions are.
    seed (`int`, *optional*, defaults to 0): of the bootstrap.
    return_rows (`bool`, *optional*, defaults to `False`): adds `rows`: label, deciding rule or judge, reason.

Returns:
    `dict`: `inference_share` and `knowledge_share` among the decided questions (0 to 1, neither better nor worse),
    `ci95` and `bounds` of the inference share, and `counts`.

Examples:

    How a question is asked tells most of it.

    >>> metric = evaluate.load("metrics/question_type")
    >>> result = metric.compute(
    ...     questions=["Which plane is this?", "What does the liver do?", "What is the most likely diagnosis?"],
    ...     benchmarks=["A", "A", "B"],
    ...     return_rows=True,
    ... )
    >>> [row["label"] for row in result["rows"]]
    ['knowledge', 'knowledge', 'inference']
    >>> result["by_benchmark"]["B"]["inference_share"], result["counts"]["decided_by"]
    (1.0, {'rule': 3})

    The story of a case turns a question into one about that case, and what no rule decides stays open.

    >>> result = metric.compute(
    ...     questions=["What treatment is used?", "What treatment is used?", "Effusion or not?"],
    ...     contexts=["", "A 60-year-old man presents with chest pain.", ""],
    ...     return_rows=True,
    ... )
    >>> [row["rule"] for row in result["rows"]]
    ['asks_for_a_fact', 'about_this_case', 'no_rule']
    >>> result["inference_share"], result["bounds"], result["counts"]["undecided"]
    (0.5, [0.3333333333333333, 0.6666666666666666], 1)
"""

_JUDGE_WHEN = ("undecided", "all")


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class QuestionType(evaluate.Measurement):
    """The `evaluate` module; see `_KWARGS_DESCRIPTION` for its arguments."""

    def _info(self):
        return evaluate.MeasurementInfo(
            module_type="measurement",
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"questions": datasets.Value("large_string")}),
        )

    def add_batch(self, *, predictions=None, references=None, **kwargs):
        """Takes rows as the base class does, but casts no number and no list to text.

        Args:
            predictions (`None`): not used.
            references (`None`): not used.
            kwargs: `questions` (`list[str]`).

        Raises:
            ValueError: a question is not text, or empty.
        """
        for index, question in enumerate(kwargs.get("questions") or []):
            if not isinstance(question, str) or not any(letter.isalnum() for letter in question):
                raise ValueError(f"Row {index} has no question: {question!r}.")
        super().add_batch(predictions=predictions, references=references, **kwargs)

    def _compute(
        self,
        questions,
        contexts=None,
        options=None,
        benchmarks=None,
        cases=None,
        judge=None,
        judge_cache=None,
        judge_when="undecided",
        sources=None,
        seed=0,
        return_rows=False,
    ):
        lists = {"contexts": contexts, "options": options, "benchmarks": benchmarks, "cases": cases}
        for name, values in lists.items():
            if values is not None and len(values) != len(questions):
                raise ValueError(f"`{name}` has {len(values)} entries for {len(questions)} questions.")
        if judge_when not in _JUDGE_WHEN:
            raise ValueError(f"`judge_when` is {judge_when!r}; it must be one of {_JUDGE_WHEN}.")
        rows = _decide_by_rules(questions, contexts, options)
        facts = None
        if judge is not None:
            facts = _decide_by_judge(rows, make_judge(judge, judge_cache), judge_when, sources or ())
        clusters = [str(number) for number in range(len(rows))] if cases is None else [str(case) for case in cases]
        result = _summarise(rows, clusters, seed)
        if benchmarks is not None:
            result["by_benchmark"] = {}
            for name in dict.fromkeys(benchmarks):
                chosen = [number for number, benchmark in enumerate(benchmarks) if benchmark == name]
                result["by_benchmark"][name] = _summarise(
                    [rows[number] for number in chosen], [clusters[number] for number in chosen], seed
                )
        if facts is not None:
            result["judge"] = facts
        if return_rows:
            keep = ("label", "decided_by", "rule", "rule_label", "reason", "evidence")
            result["rows"] = [{name: row[name] for name in keep} for row in rows]
        return result

    def chart(self, result, title="Knowledge and inference questions"):
        """Draws the shares of a result.

        Args:
            result (`dict`): what `compute` returned.
            title (`str`, *optional*): stands above.

        Returns:
            `str`: an SVG picture with one bar a benchmark, or one bar where no benchmarks were named.
        """
        return draw_shares(result.get("by_benchmark") or {"all questions": result}, title)


def _decide_by_rules(questions, contexts, options):
    rows = []
    for index, question in enumerate(questions):
        context = (contexts[index] or "") if contexts is not None else ""
        if not isinstance(context, str):
            raise ValueError(f"Row {index}: the context {context!r} is not text.")
        label, rule = classify(question, context)
        rows.append(
            {
                "index": index,
                "question": question,
                "context": context,
                "options": list(options[index] or []) if options is not None else [],
                "label": label,
                "rule_label": label,
                "rule": rule,
                "decided_by": "rule" if label else None,
                "reason": None if label else "no rule applies",
                "evidence": None,
                "failed": False,
            }
        )
    return rows


def _decide_by_judge(rows, client, judge_when, sources):
    """Asks the judge, writes its verdicts into the rows, and returns what the result says of it."""
    asked = [row for row in rows if judge_when == "all" or row["label"] is None]
    verdicts, facts = ask(client, asked, sources)
    for row in asked:
        verdict = verdicts[row["index"]]
        failed = verdict["label"] is None
        # A failed verdict is nobody's label: where the judge was to decide, the rule does not step in for it.
        row.update(**verdict, failed=failed, decided_by=None if failed else "judge")
    both = [row for row in asked if row["rule_label"] and row["decided_by"] == "judge"]
    facts["failed"] = sum(row["failed"] for row in asked)
    facts["agreement_with_rules"] = agreement([row["rule_label"] for row in both], [row["label"] for row in both])
    return facts


def _summarise(rows, clusters, seed):
    labels = [row["label"] for row in rows]
    inference = share_of(labels, clusters, INFERENCE, seed)
    counts = Counter(labels)
    return {
        "inference_share": inference["share"],
        "knowledge_share": None if inference["share"] is None else 1 - inference["share"],
        "ci95": inference["ci95"],
        "bounds": inference["bounds"],
        "counts": {
            "total": len(rows),
            "scored": len(rows) - counts[None],
            "knowledge": counts[KNOWLEDGE],
            "inference": counts[INFERENCE],
            "undecided": counts[None],
            "failed": sum(row["failed"] for row in rows),
            "cases": len(set(clusters)),
            "decided_by": dict(sorted(Counter(row["decided_by"] for row in rows if row["decided_by"]).items())),
            "rules": dict(sorted(Counter(row["rule"] for row in rows).items())),
        },
    }
