"""One case's way through the stages: labels by rule, labels by a model, evidence, texts, filters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from semihv_hf.curation.prepared_images import PreparedImages
from semihv_hf.data.building.blocks import plain_row
from semihv_hf.data.building.failures import is_fatal
from semihv_hf.data.checks import validate_case, validate_record
from semihv_hf.data.licences import may_write
from semihv_hf.data.schema import Case, Evidence
from semihv_hf.errors import SemiHVError, first_line
from semihv_hf.llm.types import ChatRequest, ChatResult, Failure, ServerSettings, Usage

from .cases import case_of
from .outcome import Outcome
from .worker import Search, Worker

if TYPE_CHECKING:
    from semihv_hf.data.attestations import Attestation

# Asks everything that is given, and gives the results in that order.
Ask = Callable[[Sequence[ChatRequest]], Awaitable[list[ChatResult]]]


@dataclass
class Tools:
    """What the stages need, made once for many cases. A part that is `None` is a stage that is not done.

    Args:
        settings ([`ServerSettings`]): the server.
        classify (`Any`, *optional*): [`semihv_hf.curation.classify.ClassifyOptions`].
        generate (`Any`, *optional*): [`semihv_hf.curation.generation.GenerationOptions`].
        retriever ([`Search`], *optional*): finds evidence.
        duplicates (`Any`, *optional*): [`semihv_hf.curation.near_duplicates.Duplicates`].
        attestation ([`Attestation`], *optional*): for the gate before writing.
        keep_prompts (`bool`, *optional*): whether outcomes hold requests and results.
        go_on (`bool`, *optional*): whether a look ahead goes on to the texts of a case without its labels.
    """

    settings: ServerSettings
    classify: Any = None
    generate: Any = None
    retriever: Search | None = None
    duplicates: Any = None
    attestation: Attestation | None = None
    keep_prompts: bool = False
    go_on: bool = False
    _may_write: dict[str, str | None] = field(default_factory=dict)

    def refusal(self, sources: Iterable[str]) -> str | None:
        """Why texts of these sources may not stand in the output; `None` if they may."""
        for source in sources:
            if source not in self._may_write:
                decision = may_write(source, attestation=self.attestation)
                self._may_write[source] = None if decision.allowed else decision.reason
            if self._may_write[source] is not None:
                return self._may_write[source]
        return None


async def curate_case(row: Mapping[str, Any], tools: Tools, ask: Ask, work: Worker) -> Outcome:
    """Takes a case through all stages. What fails is a value of the outcome.

    Args:
        row (`Mapping[str, Any]`): the case as a row.
        tools ([`Tools`]): the parts.
        ask (`Callable`): asks the server.
        work ([`Worker`]): does what takes the processor.

    Returns:
        [`Outcome`]: what became of it.

    Raises:
        `SemiHVError`: a setting is wrong, so that no case can be done.
    """
    outcome = Outcome(source=str(row.get("source")), source_id=str(row.get("source_id")), case_id=str(row.get("id")))
    case = _read(row, outcome)
    if case is None or _is_dropped(case, tools, outcome):
        return outcome
    outcome.case = case
    pictures = PreparedImages()
    if not await _classified(case, pictures, tools, outcome, ask, work) or tools.generate is None:
        return outcome
    stage = "generate"
    try:
        from semihv_hf.curation.generation import TASKS, plan

        tasks = plan(case, tools.generate)
        if not tasks:
            outcome.left_out = ("no task", "no generation task fits the texts and images that it has")
            return outcome
        stage = "retrieve"
        wanted = any(TASKS[task].evidence for task in tasks)
        evidence, images = await _evidence(case, tools, work) if wanted else ([], {})
        outcome.evidence = evidence
        if tools.keep_prompts:
            outcome.evidence_images = images
        if (refusal := tools.refusal(sorted({item.source for item in evidence}))) is not None:
            outcome.fail("retrieve", Failure("licence", refusal))
            return outcome
    except Exception as error:
        _must_be_this_case(error)
        outcome.fail(stage, Failure("internal", first_line(error)))
        return outcome
    await _generate(case, tasks, (evidence, images, pictures), tools, outcome, ask, work)
    return outcome


def _read(row: Mapping[str, Any], outcome: Outcome) -> Case | None:
    try:
        validate_case({"labels": [], **row})
        return case_of(row)
    except (SemiHVError, KeyError, TypeError) as error:
        problem = error.what if isinstance(error, SemiHVError) else first_line(error)
        outcome.left_out = ("malformed case", problem)
    return None


def _is_dropped(case: Case, tools: Tools, outcome: Outcome) -> bool:
    if tools.duplicates is None or case.id not in tools.duplicates.dropped:
        return False
    outcome.left_out = ("duplicate", "shows or says the same as a case that is kept, or as a benchmark")
    return True


def _must_be_this_case(error: Exception) -> None:
    """What concerns every case ends the run; anything else is a failure of this one."""
    if is_fatal(error):
        raise error


async def _classified(
    case: Case, pictures: PreparedImages, tools: Tools, outcome: Outcome, ask: Ask, work: Worker
) -> bool:
    """Labels a case; tells whether all labels that were asked for are there."""
    if tools.classify is None:
        return True
    from semihv_hf.curation.classify import CannotAsk, classification_requests, labels_from_replies

    failures: list[Failure] = []
    try:
        results: list[ChatResult] = []
        try:
            requests = await work.make(classification_requests, case, tools.settings, tools.classify, pictures)
            results = await _ask(requests, "classify", tools, outcome, ask)
        except CannotAsk as problem:
            failures = [problem.failure]
        case.labels, unanswered = labels_from_replies(case, results, tools.classify)
        failures += unanswered
    except Exception as error:
        _must_be_this_case(error)
        failures = [Failure("internal", first_line(error))]
    for failure in failures:
        outcome.fail("classify", failure)
    # A text that is written without a label would be asked for again with it: this case waits for the next run.
    return not failures or (tools.go_on and all(failure.kind == "cache_miss" for failure in failures))


async def _evidence(case: Case, tools: Tools, work: Worker) -> tuple[list[Evidence], dict[str, list[bytes]]]:
    if tools.retriever is None:
        return [], {}
    from semihv_hf.curation.retrieval import query_of

    near = tools.duplicates.near(case.id) if tools.duplicates is not None else frozenset()
    evidence = await work.search(query_of(case, near))
    return evidence, {item.id: found for item in evidence if (found := tools.retriever.images(item))}


async def _generate(
    case: Case, tasks: Sequence[str], found: tuple, tools: Tools, outcome: Outcome, ask: Ask, work: Worker
) -> None:
    """All tasks of a case at once; each ends in records, in rejections or in a failure."""
    made = await work.make(_requests, tasks, case, found, tools)
    for task, failure in made.items():
        if isinstance(failure, Failure):
            outcome.fail("generate", failure, task)
    requests = {task: request for task, request in made.items() if isinstance(request, ChatRequest)}
    results = await _ask(list(requests.values()), list(requests), tools, outcome, ask)
    for task, result in zip(requests, results):
        if result.failure is not None:
            outcome.fail("generate", result.failure, task)
            continue
        try:
            _add_records(task, case, found[0], result, tools, outcome)
        except Exception as error:
            _must_be_this_case(error)
            outcome.fail("generate", Failure("internal", first_line(error)), task)


def _requests(tasks: Sequence[str], case: Case, found: tuple, tools: Tools) -> dict[str, ChatRequest | Failure]:
    from semihv_hf.curation.generation import generation_request

    evidence, images, pictures = found
    made: dict[str, ChatRequest | Failure] = {}
    for task in tasks:
        try:
            made[task] = generation_request(task, case, evidence, images, tools.settings, tools.generate, pictures)
        except Exception as error:
            _must_be_this_case(error)
            made[task] = Failure("internal", first_line(error))
    return made


def _add_records(
    task: str, case: Case, evidence: list[Evidence], result: ChatResult, tools: Tools, outcome: Outcome
) -> None:
    from semihv_hf.curation.generation import records_from_reply

    records, rejected = records_from_reply(task, case, evidence, result, tools.generate)
    known = {record.id for record in outcome.records}
    for record in records:
        try:
            validate_record(plain_row(record))
        except SemiHVError as error:  # what a filter should have caught is not written
            outcome.rejected.append({"task": task, "rule": "malformed record", "detail": error.what})
            continue
        if record.id in known:
            outcome.rejected.append({"task": task, "rule": "repeated record", "detail": "the case has it already"})
            continue
        known.add(record.id)
        outcome.records.append(record)
    for item in rejected:
        outcome.rejected.append({"task": task, "rule": item.rule, "detail": item.detail})


async def _ask(
    requests: Sequence[ChatRequest], names: str | Sequence[str], tools: Tools, outcome: Outcome, ask: Ask
) -> list[ChatResult]:
    if not requests:
        return []
    results = await ask(requests)
    for result in results:
        if result.failure is None:
            outcome.answers += 1
            # A server that counts nothing, or a model without a price, leaves the sum what is known of it.
            used = result.usage or Usage(cost_usd=0.0)
            outcome.usage = outcome.usage + replace(used, cost_usd=used.cost_usd or 0.0)
    if tools.keep_prompts:
        labels = [names] * len(requests) if isinstance(names, str) else names
        outcome.prompts.extend(zip(labels, requests, results))
    return results
