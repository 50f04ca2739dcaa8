"""The parts of a curation, opened from its recipe, and what decides its output."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from semihv_hf.data.building.workspace import MANIFEST as BUILD_MANIFEST
from semihv_hf.errors import SemiHVError
from semihv_hf.files import canonical_json, write_json
from semihv_hf.packages import file_sha256
from semihv_hf.registration import sources_hash

from .cases import CaseFolder
from .config import CurateConfig, options_of
from .stages import Tools
from .state import FOUND
from .worker import Search

if TYPE_CHECKING:
    from semihv_hf.data.attestations import Attestation
    from semihv_hf.llm.budget import Budget
    from semihv_hf.llm.types import Failure

DUPLICATES = "duplicates"


@dataclass(frozen=True, eq=False)
class Job:
    """A curation as a worker process needs to know it.

    Args:
        config ([`CurateConfig`]): the recipe.
        cases ([`CaseFolder`]): the cases.
        work (`pathlib.Path`): the folder of unfinished work.
        duplicates (`pathlib.Path`, *optional*): what the search for duplicates wrote.
        cache_only (`bool`): ask nobody.
        pending (`int`, *optional*): cases among which several processes divide the budget; 0 for one process.
        unanswered (`Mapping[str, Failure]`, *optional*): why a batch gave no answer, by the key of the request.
        run (`str`, *optional*): a name that no other run has; it stays with the copies that workers get.
    """

    config: CurateConfig
    cases: CaseFolder
    work: Path
    duplicates: Path | None
    cache_only: bool
    pending: int = 0
    unanswered: Mapping[str, Failure] = field(default_factory=dict)
    run: str = field(default_factory=lambda: uuid4().hex)


def open_tools(job: Job, *, keep_prompts: bool = False) -> Tools:
    """Opens the parts.

    Args:
        job ([`Job`]): the curation.
        keep_prompts (`bool`, *optional*, defaults to `False`): whether outcomes hold requests and results.

    Returns:
        [`Tools`]: the parts.

    Raises:
        `SemiHVError`: an option is wrong, or the index is empty or of another encoder.
    """
    config = job.config
    return Tools(
        settings=config.settings(),
        classify=classify_options(config),
        generate=generation_options(config),
        retriever=open_retriever(job),
        duplicates=_open_duplicates(job.duplicates),
        attestation=attestation(config),
        keep_prompts=keep_prompts,
    )


def classify_options(config: CurateConfig) -> Any:
    """The options of the classification; `None` where there is none.

    Args:
        config ([`CurateConfig`]): the recipe.
    """
    if config.classify is None:
        return None
    from semihv_hf.curation.classify import ClassifyOptions

    return options_of(ClassifyOptions, config.classify, "classify")


def generation_options(config: CurateConfig) -> Any:
    """The options of the generation; `None` where there is none.

    Args:
        config ([`CurateConfig`]): the recipe.
    """
    if config.generate is None:
        return None
    # What is missing from the installation must show before anything is asked, not at the first answer.
    from semihv_hf.curation.generation import (  # noqa: F401
        GenerationOptions,
        generation_request,
        load_demonstrations,
        plan,
        records_from_reply,
    )

    given = dict(config.generate)
    if isinstance(given.get("demonstrations"), str):
        given["demonstrations"] = load_demonstrations(given["demonstrations"])
    return options_of(GenerationOptions, given, "generate")


def open_retriever(job: Job) -> Search | None:
    """The retriever; `None` where no evidence is wanted.

    Args:
        job ([`Job`]): the curation.

    Raises:
        `SemiHVError`: the index is missing, empty or of another encoder.
    """
    if job.config.retrieve is None:
        return None
    from semihv_hf.curation.retrieval import Exclusions

    opened = _opened(_OfRun(job.run, job.config))
    found = _open_duplicates(job.duplicates)
    # What is left out because it repeats a benchmark must not come back as evidence.
    return opened if found is None else opened.excluding(Exclusions(ids=found.dropped))


@dataclass(frozen=True)
class _OfRun:
    """A recipe, known by its run: a worker reads it anew with every piece of work."""

    run: str
    config: CurateConfig = field(compare=False)


# Kept for all pieces of work of one run: encoders take seconds to load.
@lru_cache(maxsize=1)
def _opened(of: _OfRun) -> Any:
    from semihv_hf.curation.retrieval import Retriever, benchmark_exclusions

    stage, duplicates = of.config.retrieve, of.config.duplicates
    never = None if duplicates is None else benchmark_exclusions(duplicates.benchmarks)
    return Retriever(
        stage.index, encoder=stage.encoder, fusion=stage.fusion, k=stage.k, floor=stage.floor, exclude=never
    )


def _open_duplicates(folder: Path | None) -> Any:
    if folder is None:
        return None
    from semihv_hf.curation.near_duplicates import Duplicates

    return Duplicates.load(folder)


def attestation(config: CurateConfig) -> Attestation | None:
    """What the user signed; `None` if nothing.

    Args:
        config ([`CurateConfig`]): the recipe.
    """
    if config.attestation is None:
        return None
    from semihv_hf.data.attestations import read_attestation

    return read_attestation(config.attestation)


def budget(config: CurateConfig, share: float = 1.0) -> Budget:
    """What may be spent.

    Args:
        config ([`CurateConfig`]): the recipe.
        share (`float`, *optional*, defaults to 1): of the limit, above 0.
    """
    from semihv_hf.llm.budget import Budget

    limit = None if config.max_cost_usd is None else config.max_cost_usd * share
    return Budget(limit, config.prices)


def known_duplicates(config: CurateConfig) -> Path | None:
    """What an earlier search found, if the recipe names it.

    Args:
        config ([`CurateConfig`]): the recipe.

    Raises:
        `SemiHVError`: it is not there.
    """
    if config.duplicates is None or config.duplicates.folder is None:
        return None
    folder = Path(config.duplicates.folder)
    if not folder.is_dir():
        raise SemiHVError(f"There is no folder of duplicates {folder}.", "Leave it out, to search anew.")
    return folder


def duplicates_folder(config: CurateConfig, cases: CaseFolder, work: Path) -> Path | None:
    """Finds the duplicates, unless they were found before.

    Args:
        config ([`CurateConfig`]): the recipe.
        cases ([`CaseFolder`]): the cases.
        work (`pathlib.Path`): the folder of unfinished work.

    Returns:
        `pathlib.Path` or `None`: what the search wrote; `None` where the recipe has no such stage.
    """
    stage = config.duplicates
    if stage is None or stage.folder is not None:
        return known_duplicates(config)
    from semihv_hf.curation.duplicate_options import DuplicateOptions
    from semihv_hf.curation.near_duplicates import find_duplicates

    folder, mark = work / DUPLICATES, work / f"{DUPLICATES}.json"
    asked = {
        "cases": cases.digest,
        "options": dict(stage.options),
        "benchmarks": _benchmarks(config),
        "code": _code(),
    }
    wanted = canonical_json(asked)
    if not (mark.exists() and mark.read_text(encoding="utf-8").strip() == canonical_json(wanted)):
        find_duplicates(
            cases.folder,
            benchmarks=list(stage.benchmarks),
            out_dir=folder,
            options=options_of(DuplicateOptions, stage.options, "duplicates: options"),
            progress=False,
        )
        write_json(mark, wanted)
    return folder


def made_of(job: Job) -> dict[str, Any]:
    """What decides the bytes of the output, answers apart. Two runs that agree in it may be one, interrupted.

    Args:
        job ([`Job`]): the curation.

    Returns:
        `dict`: JSON without a path of this machine. `FOUND` is `None` where duplicates were not searched for yet.
    """
    files = {name: _known_by(Path(value)) for name, value in _files(job.config).items()}
    return {
        "cases": {"rows": job.cases.rows, "digest": job.cases.digest},
        **_without_paths(job.config.content(), files),
        "index": getattr(_opened(_OfRun(job.run, job.config)), "fingerprint", None) if job.config.retrieve else None,
        "benchmarks": _benchmarks(job.config),
        FOUND: None if job.duplicates is None else _found_in(job.duplicates),
        "files": files,
        "code": _code(),
    }


def _benchmarks(config: CurateConfig) -> list[str]:
    stage = config.duplicates
    return [] if stage is None else [_known_by(Path(name)) for name in stage.benchmarks]


def _files(config: CurateConfig) -> dict[str, str]:
    """Options that name files or folders of the user's own."""
    found = {
        f"{section}.{name}": (getattr(config, section) or {}).get(name)
        for section, name in (("classify", "prompt"), ("generate", "prompts"), ("generate", "demonstrations"))
    }
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _without_paths(content: dict[str, Any], files: Mapping[str, Any]) -> dict[str, Any]:
    for name in files:
        section, _, key = name.partition(".")
        content[section] = {name: value for name, value in content[section].items() if name != key}
    return content


def _known_by(path: Path) -> str:
    """A file or a folder by its content; a dataset folder by its manifest."""
    if path.is_file():
        return file_sha256(path)
    if (path / BUILD_MANIFEST).is_file():
        return file_sha256(path / BUILD_MANIFEST)
    digest = hashlib.sha256()
    for one in sorted(path.rglob("*")):
        if one.is_file():
            digest.update(f"{one.relative_to(path)} {file_sha256(one)}\n".encode())
    return digest.hexdigest()


def _found_in(folder: Path) -> str:
    """What a search for duplicates found, by its content: neither its cache of signatures nor what a kill left."""
    digest = hashlib.sha256()
    for one in sorted(folder.iterdir()):
        if one.is_file() and not one.name.startswith("."):
            digest.update(f"{one.name} {file_sha256(one)}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _code() -> str:
    here = Path(__file__).resolve()
    templates = sorted(here.parents[1].rglob("*.jinja"))
    return sources_hash([here.parents[1], here.parents[2] / "data", *templates])
