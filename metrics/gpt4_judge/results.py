"""Decisions become a result: every mean beside its denominator, its bounds, its interval and its price."""

import hashlib
import json
import re
from collections import Counter
from dataclasses import asdict

from semihv_hf.errors import SemiHVError
from semihv_hf.evaluation.statistics import clustered_interval

from .prompts import EVERYTHING
from .prompts import PROMPT_VERSION

# Names that a hosted service moves from one set of weights to the next, and what a fixed one ends in.
_HOSTED = re.compile(r"^(?:.*/)?(?:gpt-|chatgpt-|o\d|claude-|gemini-)|latest$", re.IGNORECASE)
_DATED = re.compile(r"\d{4}-\d{2}-\d{2}$|[-@]\d{8}$|-\d{4}$|-\d{3}$")


def moves(model):
    """Whether a model's name is an alias that another set of weights may stand behind tomorrow.

    Args:
        model (`str`): the name.

    Returns:
        `bool`: `True` for names of hosted models without a date.
    """
    return bool(_HOSTED.search(model)) and not _DATED.search(model)


def prompt_hash():
    """The sha256 of every word that the judge is told.

    Returns:
        `str`: 64 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(EVERYTHING).encode()).hexdigest()


def summarise(decisions, scale, seed):
    """The numbers of a set of rows.

    Args:
        decisions (`list[dict]`): the decisions.
        scale (`tuple[float, float]`): the least and the greatest score of a row.
        seed (`int`): of the bootstrap.

    Returns:
        `dict`: counts, mean, interval and bounds.
    """
    scored = [decision for decision in decisions if decision["score"] is not None]
    n_total, n_failed = len(decisions), len(decisions) - len(scored)
    total = sum(decision["score"] for decision in scored)
    least, greatest = scale
    rules = Counter(decision["rule"] for decision in scored if decision["decided_by"] == "rule")
    n_judged = sum(decision["decided_by"] == "judge" for decision in scored)
    return {
        "n_total": n_total,
        "n_scored": len(scored),
        "n_failed": n_failed,
        "failures": dict(sorted(Counter(d["failure"] for d in decisions if d["failure"]).items())),
        "n_empty": sum(decision["empty"] for decision in decisions),
        "decided_by": {"judge": n_judged, "rule": sum(rules.values()), "rules": dict(sorted(rules.items()))},
        "rule_share": sum(rules.values()) / len(scored) if scored else None,
        "scale": list(scale),
        "mean": total / len(scored) if scored else None,
        "ci95": clustered_interval([d["score"] for d in scored], [d["case_id"] for d in scored], seed=seed)
        if scored
        else None,
        # What the mean over all rows would be if every row without a verdict had got the least, or the greatest score.
        "bounds": [(total + least * n_failed) / n_total, (total + greatest * n_failed) / n_total],
    }


def by_group(decisions, groups, scale, seed):
    """The numbers of each group.

    Args:
        decisions (`list[dict]`): the decisions.
        groups (`list[str]`): the group of each row.
        scale (`tuple[float, float]`): the least and the greatest score of a row.
        seed (`int`): of the bootstrap.

    Returns:
        `dict`: [`summarise`] of each group, by name.
    """
    members = {}
    for decision, group in zip(decisions, groups):
        members.setdefault(group, []).append(decision)
    return {name: summarise(members[name], scale, seed) for name in sorted(members)}


def check_failures(summary, max_failure_rate):
    """Refuses a mean over what happened to go through.

    Args:
        summary (`dict`): what [`summarise`] made.
        max_failure_rate (`float`): the greatest share of rows, 0 to 1, that may be without a verdict although there
            was an answer to judge.

    Raises:
        `SemiHVError`: there are more; says of which kinds.
    """
    kinds = {kind: count for kind, count in summary["failures"].items() if kind != "no_prediction"}
    count = sum(kinds.values())
    if count > max_failure_rate * summary["n_total"]:
        named = ", ".join(f"{kind} {number}" for kind, number in kinds.items())
        raise SemiHVError(
            f"{count} of {summary['n_total']} rows have no verdict ({named}), more than max_failure_rate="
            f"{max_failure_rate:g} allows.",
            "Run it again with the same cache_dir: only what failed is asked again.",
        )


def provenance(calls, settings):
    """Who judged, with which words, and at what price.

    Args:
        calls (`Calls`): the calls that were made.
        settings (`ServerSettings`): the server's settings.

    Returns:
        `dict`: models, server, prompt version and hash, tokens and dollars; nothing secret.
    """
    return {
        "model_requested": settings.model,
        "models_returned": dict(sorted(calls.models.items())),
        "system_fingerprints": dict(sorted(calls.fingerprints.items())),
        "base_url": settings.shown_url,
        "sampling": {"temperature": settings.temperature, "seed": settings.seed, "max_tokens": settings.max_tokens},
        "prompt_version": PROMPT_VERSION,
        "prompt_sha256": prompt_hash(),
        # What the verdicts took, whenever they were asked; the same for a first run and a resumed one.
        "usage": asdict(calls.usage),
        "this_run": {**{name: calls.answers[name] for name in RUN_COUNTS}, **asdict(calls.this_run)},
    }


RUN_COUNTS = ("answered", "cached", "failed", "never_sent")
