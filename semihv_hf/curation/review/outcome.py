"""What several people's decisions about a record or a pair come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from semihv_hf.data.messages import message_text
from semihv_hf.data.schema import Provenance, content_id

from .decisions import Decision
from .items import prompt_of

PROMPT_VERSION = "semihv-review-1"


@dataclass
class Tally:
    """What the decisions came to, each number with what it is a part of.

    Args:
        counts (`Counter`): records by `"accepted"`, `"edited"`, `"rejected"`, `"not looked at"`; pairs by
            `"preferred"`, `"tie"`, `"neither"`, `"disagreement"`, `"not looked at"`.
        reasons (`Counter`): rejections by reason.
        conflicts (`int`): records that several people edited differently; the newest edit counts.
        votes (`Counter`): decisions by verdict.
    """

    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    conflicts: int = 0
    votes: Counter[str] = field(default_factory=Counter)


def settle_record(decisions: Sequence[Decision], tally: Tally) -> tuple[str, Mapping[str, str]]:
    """What becomes of a record: one rejection leaves it out, otherwise the newest edit counts.

    Args:
        decisions (`Sequence[Decision]`): those of all reviewers, the newest last.
        tally ([`Tally`]): is told.

    Returns:
        `tuple[str, Mapping[str, str]]`: `"accepted"`, `"edited"`, `"rejected"` or `"not looked at"`, and the new
        texts by the number of their message.
    """
    tally.votes.update(decision.verdict for decision in decisions)
    rejections = [decision for decision in decisions if decision.verdict == "reject"]
    edits = [decision for decision in decisions if decision.verdict == "edit"]
    if rejections:
        end = "rejected"
        tally.reasons[rejections[-1].reason or "no reason given"] += 1
    elif edits:
        end = "edited"
        tally.conflicts += any(dict(edit.texts) != dict(edits[-1].texts) for edit in edits)
    else:
        end = "accepted" if decisions else "not looked at"
    tally.counts[end] += 1
    return end, edits[-1].texts if end == "edited" else {}


def settle_pair(decisions: Sequence[Decision], tally: Tally) -> str | None:
    """The record of a pair that more people prefer.

    Args:
        decisions (`Sequence[Decision]`): those of all reviewers.
        tally ([`Tally`]): is told.

    Returns:
        `str` or `None`: its id; `None` where nobody looked, as many prefer the one as the other, or most find them
        equal or neither usable.
    """
    tally.votes.update(decision.verdict for decision in decisions)
    wins: Counter[str] = Counter()
    for decision in decisions:
        place = {"first": 0, "second": 1}.get(decision.verdict)
        wins[decision.verdict if place is None else decision.records[place]] += 1
    ranked = wins.most_common()
    if not ranked:
        end = "not looked at"
    elif len(ranked) > 1 and ranked[0][1] == ranked[1][1]:
        end = "disagreement"
    else:
        end = ranked[0][0] if ranked[0][0] in ("tie", "neither") else "preferred"
    tally.counts[end] += 1
    return ranked[0][0] if end == "preferred" else None


def edited(row: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """A record with new texts, under a new id, saying who wrote what.

    Args:
        row (`Mapping[str, Any]`): the record; it is not changed.
        texts (`Mapping[str, str]`): new texts by the number of their message.

    Returns:
        `dict`: the new record.
    """
    messages, annotation = list(row["messages"]), list(row["annotation"])
    for number, text in texts.items():
        index = int(number)
        pictures = [part for part in messages[index]["content"] if part["type"] == "image"]
        content = [*pictures, {"type": "text", "text": text}]
        messages[index] = {"role": messages[index]["role"], "content": content}
        annotation[index] = "human_edit" if annotation[index] in ("machine", "human_edit") else "human"
    wrote = [
        vars(Provenance(f"messages[{number}]", prompt_version=PROMPT_VERSION, evidence=[f"record: {row['id']}"]))
        for number in texts
    ]
    return {
        **row,
        "id": content_id("review", row["id"], *map(message_text, messages)),
        "messages": messages,
        "annotation": annotation,
        "provenance": [*row["provenance"], *wrote],
    }


def preferences_of_edit(row: Mapping[str, Any], texts: Mapping[str, str]) -> list[dict[str, Any]]:
    """What an edit says about preference: the person's answer over the model's, to the same prompt.

    Args:
        row (`Mapping[str, Any]`): the record before.
        texts (`Mapping[str, str]`): new texts by the number of their message.

    Returns:
        `list[dict]`: a row for each changed answer; the conversation before it stands as it was mended.
    """
    after = edited(row, texts)["messages"]
    found = []
    for number in sorted(map(int, texts)):
        if row["messages"][number]["role"] == "assistant":
            chosen, rejected = after[number], row["messages"][number]
            found.append(_preference(row, after[:number], [chosen], [rejected], "edit", row["id"], 1))
    return found


def preference_of_pair(
    better: Mapping[str, Any], worse: Mapping[str, Any], decisions: Sequence[Decision]
) -> dict[str, Any]:
    """The preference that a settled pair holds.

    Args:
        better (`Mapping[str, Any]`): the record that most people preferred.
        worse (`Mapping[str, Any]`): the other one.
        decisions (`Sequence[Decision]`): the decisions.

    Returns:
        `dict`: a row of preferences.
    """
    prompt, last = prompt_of(better["messages"]), better["messages"][-1:]
    return _preference(better, prompt, last, worse["messages"][-1:], "comparison", worse["id"], len(decisions))


def _preference(row, prompt, chosen, rejected, origin: str, other: str, votes: int) -> dict[str, Any]:
    shown = sum(part["type"] == "image" for message in prompt for part in message["content"])
    texts = [message_text(message) for message in (*prompt, *chosen, *rejected)]
    return {
        "id": content_id("preference", row["id"], other, *texts),
        **{name: row[name] for name in ("case_id", "source", "source_id", "licence", "task", "modality")},
        "images": row["images"][:shown],
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
        "origin": origin,
        "record_ids": [row["id"], other],
        "votes": votes,
    }
