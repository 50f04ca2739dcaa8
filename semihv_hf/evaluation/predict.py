"""A checkpoint and a benchmark become a file of predictions, one row a question."""

import hashlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from semihv_hf.data.messages import message_text
from semihv_hf.errors import SemiHVError, first_line
from semihv_hf.evaluation.answering import Answerer, identify_model
from semihv_hf.evaluation.benchmarks import Question, load_questions
from semihv_hf.evaluation.conditions import blank_like, check_condition, pad_colour, shown_images
from semihv_hf.files import canonical_json, read_jsonl, write_json, write_jsonl
from semihv_hf.journal import Journal
from semihv_hf.progress import progress_bar

logger = logging.getLogger(__name__)


@dataclass
class _Job:
    """One thing to ask the model. Questions that show the same pixels with the same words share a job."""

    key: str
    question: Question
    shown: Question
    blank: bool


def predict(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    config: str = "benchmark",
    split: str = "test",
    condition: str = "image",
    batch_size: int = 16,
    max_new_tokens: int = 12,
    seed: int = 0,
    limit: int | None = None,
    precision: str = "auto",
    progress: bool = True,
) -> dict:
    """Answers every question of a benchmark and writes one row a question, in the order of the benchmark.

    Finished batches are logged beside `out`, so an interrupted run continues where it stopped and ends with the same
    bytes. A question that cannot be answered is a row with `prediction: null` and the reason in `error`; such rows are
    tried again by the next call, the others are reused.

    Args:
        model (`str` or `Path`): a checkpoint folder or a Hub id.
        data (`str` or `Path`): the dataset folder or a Hub id.
        out (`str` or `Path`): the JSONL file to write.
        config (`str`, *optional*, defaults to `"benchmark"`): the dataset's config.
        split (`str`, *optional*, defaults to `"test"`): its split.
        condition (`str`, *optional*, defaults to `"image"`): `"image"`, `"blank"` (nothing to see, same size) or
            `"shuffled"` (another case's image).
        batch_size (`int`, *optional*, defaults to 16): questions a batch.
        max_new_tokens (`int`, *optional*, defaults to 12): the longest answer.
        seed (`int`, *optional*, defaults to 0): the seed of the shuffling.
        limit (`int`, *optional*): only the first questions.
        precision (`str`, *optional*, defaults to `"auto"`): see [`Answerer.load`].
        progress (`bool`, *optional*, defaults to `True`): show a progress bar.

    Returns:
        `dict`: `file`, `fingerprint`, `condition`, `model`, and the counts `n_total`, `n_failed`, `n_computed`,
        `n_reused`, `n_prompts` (different ones), with `seconds`.

    Raises:
        SemiHVError: the model, the data or a setting is wrong, or not one question could be answered.
    """
    check_condition(condition)
    if batch_size < 1 or max_new_tokens < 1:
        raise SemiHVError("batch_size and max_new_tokens must be at least 1.")
    started = time.perf_counter()
    out = Path(out)
    questions = load_questions(data, config, split, limit=limit)
    model_name, model_hash = identify_model(model)
    shown = shown_images(questions, condition, seed)
    jobs, errors = _plan(questions, shown, condition)
    settings = {
        "model": model_name,
        "model_hash": model_hash,
        "data_hash": _data_hash(questions, jobs),
        "config": config,
        "split": split,
        "condition": condition,
        "max_new_tokens": max_new_tokens,
        "precision": precision,
        "seed": seed if condition == "shuffled" else None,
        "versions": _versions(),
    }
    fingerprint = hashlib.sha256(canonical_json(settings).encode()).hexdigest()
    journal = Journal(out.with_name(f".{out.name}.partial"), {"fingerprint": fingerprint})
    done = _finished(out, journal, fingerprint, jobs)
    reused = {job.key for job in jobs if job is not None and job.key in done}
    batches = _open_batches(jobs, done, batch_size)
    if batches:
        answerer = Answerer.load(model, max_new_tokens=max_new_tokens, precision=precision)
        _run(answerer, batches, journal, done, progress=progress, title=f"{out.stem}: answering")
    rows = _rows(questions, shown, jobs, errors, done, condition, model_name)
    failed = [row for row in rows if row["error"] is not None]
    summary = {
        "file": out.name,
        "fingerprint": fingerprint,
        "condition": condition,
        "model": model_name,
        "n_total": len(rows),
        "n_failed": len(failed),
        "n_computed": sum(1 for job in jobs if job is not None and job.key not in reused),
        "n_reused": sum(1 for job in jobs if job is not None and job.key in reused),
        "n_prompts": len({job.key for job in jobs if job is not None}),
        "seconds": round(time.perf_counter() - started, 2),
    }
    if batches or not out.exists():
        write_jsonl(out, rows)
        write_json(_meta_path(out), {**summary, "settings": settings})
    journal.delete()
    if len(failed) == len(rows):
        raise SemiHVError(f"None of the {len(rows)} questions could be answered; the first: {failed[0]['error']}")
    if failed:
        logger.warning("%s: %d of %d questions failed; %s", out.name, len(failed), len(rows), failed[0]["error"])
    return summary


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers")}


def _meta_path(out: Path) -> Path:
    return out.with_name(f"{out.stem}.meta.json")


def _plan(
    questions: list[Question], shown: list[Question | None], condition: str
) -> tuple[list[_Job | None], list[str | None]]:
    """Decides what the model will see for every question, or why it cannot be asked."""
    jobs: list[_Job | None] = []
    errors: list[str | None] = []
    for question, source in zip(questions, shown, strict=True):
        job, error = None, None
        if source is None:
            error = "there is no other case whose image could be shown"
        elif not source.images:
            error = "the row holds no image"
        else:
            try:
                # Decoding here finds a bad image before the model is loaded, and under every condition alike.
                sizes = [image.size for image in source.open_images()]
                pixels = sizes if condition == "blank" else source.image_key()
                key = hashlib.sha256(canonical_json([pixels, question.messages]).encode()).hexdigest()
                job = _Job(key, question, source, blank=condition == "blank")
            except (OSError, ValueError, SyntaxError) as failure:  # what Pillow raises on bytes that are no image
                error = f"the image cannot be read ({first_line(failure)})"
        jobs.append(job)
        errors.append(error)
    return jobs, errors


def _data_hash(questions: list[Question], jobs: list[_Job | None]) -> str:
    digest = hashlib.sha256()
    for question, job in zip(questions, jobs, strict=True):
        row = [question.id, question.reference, question.options, question.template, job.key if job else None]
        digest.update(canonical_json(row).encode())
    return digest.hexdigest()


def _finished(out: Path, journal: Journal, fingerprint: str, jobs: list[_Job | None]) -> dict[str, dict]:
    """Collects what earlier calls with the same fingerprint answered; sets aside what belongs to other settings."""
    from json import JSONDecodeError, loads

    done: dict[str, dict] = {}
    rows, foreign = journal.load()
    if foreign:
        logger.warning(
            "%s: an unfinished run with another model, data or setting was dropped; starting anew.", out.name
        )
    for row in rows:
        if row["error"] is None:
            done[row["key"]] = row
    if not out.exists():
        return done
    try:
        finished = loads(_meta_path(out).read_text(encoding="utf-8"))["fingerprint"]
    except (FileNotFoundError, JSONDecodeError, KeyError):
        finished = None
    if finished != fingerprint:
        # Nobody may take the old answers for those of this run, not even if this run is interrupted.
        out.replace(out.with_name(f"{out.name}.old"))
        _meta_path(out).unlink(missing_ok=True)
        if not rows:
            logger.warning(
                "%s was written with another model, data or setting; starting anew, it is kept as %s.old.",
                out.name,
                out.name,
            )
        return done
    for row, job in zip(read_jsonl(out), jobs, strict=True):
        if job is not None and row["error"] is None:
            done[job.key] = {"prediction": row["prediction"], "truncated": row["truncated"], "error": None}
    return done


def _open_batches(jobs: list[_Job | None], done: dict[str, dict], batch_size: int) -> list[list[_Job]]:
    """Cuts the jobs into batches of like length. A batch is done as a whole or not at all: the company that a prompt
    is padded with must not depend on where an earlier run was interrupted."""
    unique = {job.key: job for job in jobs if job is not None}
    by_length = sorted(
        unique.values(), key=lambda job: (sum(len(message_text(m)) for m in job.question.messages), job.key)
    )
    batches = [by_length[start : start + batch_size] for start in range(0, len(by_length), batch_size)]
    return [batch for batch in batches if any(job.key not in done for job in batch)]


def _run(
    answerer: Answerer, batches: list[list[_Job]], journal: Journal, done: dict, *, progress: bool, title: str
) -> None:
    try:
        with progress_bar(title, sum(len(batch) for batch in batches), shown=progress) as bar:
            for batch in batches:
                rows = _answer_batch(answerer, batch)
                journal.append(rows)
                done.update({row["key"]: row for row in rows})
                bar.advance(len(batch))
    finally:
        journal.close()


def _answer_batch(answerer: Answerer, batch: list[_Job]) -> list[dict]:
    """Answers a batch; if that fails, each of its questions alone, so that one bad row costs only itself."""
    import torch

    try:
        return [_row_of(job, answer) for job, answer in zip(batch, _ask(answerer, batch), strict=True)]
    except Exception as error:  # whatever the model raises is kept as the reason of the rows concerned
        logger.info("A batch of %d failed (%s); trying its questions one by one.", len(batch), first_line(error))
    rows = []
    for job in batch:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            rows.append(_row_of(job, _ask(answerer, [job])[0]))
        except Exception as error:
            rows.append({"key": job.key, "prediction": None, "truncated": None, "error": first_line(error)})
    return rows


def _ask(answerer: Answerer, batch: list[_Job]) -> list:
    colour = pad_colour(answerer.processor)
    conversations = []
    for job in batch:
        images = job.shown.open_images()
        if job.blank:
            images = [blank_like(image, colour) for image in images]
        conversations.append((images, job.question.messages))
    return answerer.answer(conversations)


def _row_of(job: _Job, answer) -> dict:
    return {"key": job.key, "prediction": answer.text, "truncated": answer.truncated, "error": None}


def _rows(
    questions: list[Question],
    shown: list[Question | None],
    jobs: list[_Job | None],
    errors: list[str | None],
    done: dict[str, dict],
    condition: str,
    model_name: str,
) -> list[dict]:
    rows = []
    for question, source, job, error in zip(questions, shown, jobs, errors, strict=True):
        answer = done[job.key] if job is not None else {"prediction": None, "truncated": None, "error": error}
        rows.append(
            {
                "id": question.id,
                "condition": condition,
                "question": question.question,
                "reference": question.reference,
                "prediction": answer["prediction"],
                "error": answer["error"],
                "truncated": answer["truncated"],
                "answer_type": question.answer_type,
                "options": question.options,
                "template": question.template,
                "modality": question.modality,
                "fact": question.fact,
                "source_id": question.source_id,
                "case_id": question.case_id,
                "image_case_id": None if condition == "blank" or source is None else source.case_id,
                "model": model_name,
            }
        )
    return rows
