"""A look ahead, before money is spent: what a run would ask, what it would cost, and a page with some cases."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semihv_hf.data.messages import message_text
from semihv_hf.llm.running import run_coroutine
from semihv_hf.llm.types import ChatRequest
from semihv_hf.templates import strict_templates

from .cases import CaseFolder, rows_of
from .outcome import Outcome
from .parts import Job, budget, open_tools
from .spans import Row, asking
from .stages import Tools

if TYPE_CHECKING:
    from semihv_hf.progress import ProgressBar

PAGE = "preview.html"
_ESTIMATED_FROM = 100  # cases; more would hardly change what they come to on average
_THUMBNAIL = 480
_MOST_IMAGES = 6  # of a case
_MOST_EVIDENCE_IMAGES = 4  # of a similar case
_FOLDED = 700  # characters; what is longer is shown when it is unfolded


def estimate(job: Job, bar: ProgressBar) -> dict[str, Any]:
    """What a run would come to, worked out from some cases that are spread over the folder.

    Args:
        job ([`Job`]): the curation.
        bar ([`ProgressBar`]): is told the cases.

    Returns:
        `dict`: see [`Estimate.report`]; with `cases`, `from_cases` and, of all cases, `projected`.
    """
    told, _ = _look(job, _ESTIMATED_FROM, bar, ask=False)
    return told


def preview(job: Job, count: int, bar: ProgressBar) -> dict[str, Any]:
    """Writes a page that shows some cases: image, evidence, prompt and, where there is one, the answer.

    Args:
        job ([`Job`]): the curation; unless it is `cache_only` what has no answer is asked for.
        count (`int`): how many cases.
        bar ([`ProgressBar`]): is told the cases.

    Returns:
        `dict`: the estimate, and `page`, where it lies.
    """
    told, outcomes = _look(job, count, bar, ask=not job.cache_only)
    path = Path(job.config.out) / PAGE
    _write(path, told, outcomes, job)
    return {**told, "page": str(path)}


def _look(job: Job, count: int, bar: ProgressBar, *, ask: bool) -> tuple[dict[str, Any], list[Outcome]]:
    tools = open_tools(job, keep_prompts=True)
    rows = list(_spread(job.cases, count))
    bar.begin("looking ahead", len(rows))
    loop = asyncio.new_event_loop()
    try:
        outcomes = run_coroutine(loop, _outcomes(Job(**{**vars(job), "cache_only": not ask}), tools, rows, bar))
    finally:
        loop.close()
    return _told(job, tools, outcomes), outcomes


def _spread(cases: CaseFolder, count: int) -> Iterator[Row]:
    """Cases at equal distances, so that every part of the folder has its share."""
    count = min(count, cases.rows)
    wanted = {index * cases.rows // count for index in range(count)}
    first = 0
    for block in cases.blocks:
        places = {place - first for place in wanted if first <= place < first + block.rows}
        first += block.rows
        if places:
            yield from (row for row in rows_of([block]) if row[1] in places)


async def _outcomes(job: Job, tools: Tools, rows: Sequence[Row], bar: ProgressBar) -> list[Outcome]:
    found: list[tuple[int, int, Outcome]] = []
    async with asking(job, tools, budget(job.config), go_on=job.cache_only) as (_, done):
        async for block, place, outcome in done(rows):
            found.append((block.number, place, outcome))
            bar.advance()
    return [outcome for _, _, outcome in sorted(found, key=lambda entry: entry[:2])]


def _told(job: Job, tools: Tools, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    from semihv_hf.llm.cache import ResponseCache

    requests = [request for outcome in outcomes for _, request, _ in outcome.prompts]
    with ResponseCache(job.config.answers_folder) as cache:
        found = budget(job.config).estimate(requests, tools.settings, cache=cache, attestation=tools.attestation)
    scale = job.cases.rows / max(len(outcomes), 1)
    fields = ("requests", "calls", "input_tokens", "output_tokens", "cost_usd", "images")
    values = {name: value for name, value in asdict(found).items() if name in fields}
    return {
        **found.report(),
        "cases": job.cases.rows,
        "from_cases": len(outcomes),
        "projected": {
            name: value if value is None else round(value * scale, 4 if name == "cost_usd" else None)
            for name, value in values.items()
        },
    }


def _write(path: Path, told: dict[str, Any], outcomes: Sequence[Outcome], job: Job) -> None:
    from semihv_hf.files import atomic_file

    environment = strict_templates(Path(__file__).parent / "templates", html=True)
    template = environment.get_template("preview.html.jinja")
    settings = job.config.settings()
    shown = {"told": told, "model": settings.model, "server": settings.shown_url, "folded": _FOLDED}
    cards = (_card(outcome) for outcome in outcomes)
    with atomic_file(path) as file:  # piece by piece: a page of a thousand cases is large
        for piece in template.generate(cards=cards, names=[outcome.source for outcome in outcomes], **shown):
            file.write(piece)


def _card(outcome: Outcome) -> dict[str, Any]:
    """A case as the template shows it."""
    case = outcome.case
    return {
        "id": outcome.case_id,
        "source": outcome.source,
        "source_id": outcome.source_id,
        "left_out": outcome.left_out,
        "images": [_thumbnail(data) for data in (case.images if case else ())[:_MOST_IMAGES]],
        "texts": [(text.role, text.annotation, text.text) for text in (case.texts if case else ())],
        "facts": [(fact.name, fact.value) for fact in (case.facts if case else ())],
        "labels": case.labels if case else [],
        "evidence": [(item, _shown_images(outcome.evidence_images.get(item.id, ()))) for item in outcome.evidence],
        "prompts": [_prompt(name, request, result) for name, request, result in outcome.prompts],
        "records": [
            {
                "task": record.task,
                "turns": [(item["role"], message_text(item)) for item in record.messages],
            }
            for record in outcome.records
        ],
        "rejected": outcome.rejected,
        "failures": [failure for failure in outcome.failures if failure["kind"] != "cache_miss"],
    }


def _prompt(name: str, request: ChatRequest, result: Any) -> dict[str, Any]:
    messages = [(message["role"], _parts(message["content"])) for message in request.messages]
    return {
        "name": name,
        "version": request.prompt_version,
        "messages": messages,
        "words": sum(len(value.split()) for _, parts in messages for kind, value in parts if kind == "text"),
        "images": sum(kind == "image" for _, parts in messages for kind, _ in parts),
        "answer": result.text,
        "failure": result.failure if result.failure is not None and result.failure.kind != "cache_miss" else None,
        "schema": None if request.schema is None else request.schema.__name__,
    }


def _parts(content: Any) -> list[tuple[str, str]]:
    """Texts, and images as they would be sent."""
    if isinstance(content, str):
        return [("text", content)]
    return [
        ("text", part["text"]) if part["type"] == "text" else ("image", part["image_url"]["url"]) for part in content
    ]


def _shown_images(images: Sequence[bytes]) -> list[str]:
    return [_thumbnail(data) for data in images[:_MOST_EVIDENCE_IMAGES]]


def _thumbnail(data: bytes) -> str:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            image.thumbnail((_THUMBNAIL, _THUMBNAIL))
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, "JPEG", quality=85)
    except Exception:  # whatever a decoder raises: the page says it in the image's place
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
