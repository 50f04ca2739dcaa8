"""What an audit found, in sentences that a reader can quote."""

from typing import Any

# Statistics that say most of a judge, the first that exists is the headline.
HEAD = ("kappa_quadratic", "kappa")
NAMES = {"kappa_quadratic": "quadratic κ", "kappa": "Cohen’s κ"}


def number(entry: dict[str, Any] | None, digits: int = 2) -> str:
    """Writes a statistic with its interval.

    Args:
        entry (`dict`, *optional*): `value` and `ci95`.
        digits (`int`, *optional*, defaults to 2): digits behind the point.

    Returns:
        `str`: such as "0.61 (95 % interval 0.52 to 0.69)"; "undefined" where there is no value.
    """
    if entry is None or entry["value"] is None:
        return "undefined"
    text = _decimal(entry["value"], digits)
    if entry["ci95"] is None:
        return f"{text} (no interval)"
    return f"{text} (95 % interval {_decimal(entry['ci95'][0], digits)} to {_decimal(entry['ci95'][1], digits)})"


def _decimal(value: float, digits: int) -> str:
    # No "−0.00": what rounds to nothing has no sign.
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def sentence_of(result: dict[str, Any]) -> dict[str, Any]:
    """The main finding: how well the judge agrees with people, beside how well people agree.

    Args:
        result (`dict`): what the metric `agreement` computed.

    Returns:
        `dict`: `key` and `name` of the statistic, its entry `judge` over all rows, `people` and `difference` on the
        rows with two people or more (`None` without), `status` (`"below"`, `"within"`, `"above"` or `"unknown"`) and
        `sentence`.
    """
    name = next(one for one in HEAD if one in result["judge"] or one == HEAD[-1])
    judge, ceiling = result["judge"].get(name), result["ceiling"]
    head = {"key": name, "name": NAMES[name], "judge": judge, "people": None, "difference": None, "status": "unknown"}
    counts = result["counts"]
    if ceiling is None:
        head["sentence"] = (
            "No answer was scored by two people and the judge: there is no human ceiling to compare with."
        )
        return head
    people, difference = ceiling["people"][name], ceiling["difference"][name]
    head.update(people=people, difference=difference)
    own = number(ceiling["judge"][name])
    start = (
        f"On the {ceiling['n_rows']} answers that two people or more and the judge have scored, people agree with "
        f"each other at a {NAMES[name]} of {number(people)} and the judge with the same people at {own}."
    )
    if difference["value"] is None or difference["ci95"] is None:
        return {**head, "sentence": f"{start} The difference has no interval."}
    if difference["ci95"][1] < 0:
        head["status"], end = "below", "The judge agrees with people less than people with each other."
    elif difference["ci95"][0] > 0:
        head["status"], end = "above", "The judge agrees with people more than people with each other."
    else:
        head["status"] = "within"
        end = "The interval of the difference holds zero: no difference was shown, nor was equality."
    if counts["n_failed"]:
        end += f" {counts['n_failed']} of {counts['n_total']} answers have no verdict and are not in these numbers."
    return {**head, "sentence": f"{start} The difference is {number(difference)}. {end}"}


def words_of_probes(probes: dict[str, dict], level: str) -> list[dict[str, Any]]:
    """Each probe in a few sentences.

    Args:
        probes (`dict[str, dict]`): the probes that the metric `agreement` ran.
        level (`str`): the level of measurement.

    Returns:
        `list[dict]`: `name`, `title`, `status` (`"flagged"`, `"clear"`, `"report"` for probes without a threshold,
        `"unknown"` or `"not run"`) and `text`.
    """
    found = []
    for name, (title, write, lacking) in _PROBES.items():
        probe = probes.get(name)
        if probe is None:
            entry = {"status": "not run", "text": lacking}
        elif "reason" in probe:
            entry = {"status": "unknown", "text": probe["reason"]}
        else:
            flag = probe.get("flagged", "report")
            status = "report" if flag == "report" else {True: "flagged", False: "clear", None: "unknown"}[flag]
            entry = {"status": status, "text": write(probe, level)}
        found.append({"name": name, "title": title, **entry})
    return found


def _order(probe: dict, level: str) -> str:
    if not probe["n"]:
        return "No row has a verdict in both orders."
    moved = probe["favours_first"] + probe["favours_second"]
    same = _share(probe["consistency"])
    text = f"{probe['n']} answers were judged in both orders; the verdict stayed the same in {same}."
    if probe["n_failed"]:
        text += f" {probe['n_failed']} lack a verdict in one order."
    if not moved:
        return f"{text} No verdict moved."
    return (
        f"{text} Of the {moved} that moved, {probe['favours_first']} were better for the answer that stood first "
        f"({100 * probe['first_share']:.0f} %; exact binomial test against one half: p {_p(probe['p_value'])})."
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _share(entry: dict) -> str:
    share = f"{100 * entry['value']:.0f} %"
    if entry["ci95"] is None:
        return share
    return f"{share} ({100 * entry['ci95'][0]:.0f} to {100 * entry['ci95'][1]:.0f} %)"


def _length(probe: dict, level: str) -> str:
    controlled, apart = number(probe["slope_controlled"]), number(probe["slope_difference"])
    return (
        f"Over {probe['n']} answers the judge’s score has a rank correlation of {number(probe['correlation_judge'])} "
        f"with the answer’s length, people’s {number(probe['correlation_people'])}. With each doubling of the length, "
        f"at the same score from people, the judge’s score changes by {controlled} points; judge less people changes "
        f"by {apart} points. Flagged when both intervals lie on the same side of zero."
    )


def _repeats(probe: dict, level: str) -> str:
    if not probe["n"]:
        return "No answer has two verdicts."
    text = (
        f"{probe['n']} answers have {probe['n_verdicts']} verdicts; all verdicts on an answer are the same in "
        f"{_share(probe['identical'])}. Test–retest {NAMES['kappa']} {number(probe['kappa'])}"
    )
    if level == "nominal":
        return f"{text}."
    return (
        f"{text}, quadratic {number(probe['kappa_quadratic'])}; standard deviation within an answer "
        f"{number(probe['within_row_sd'])} points."
    )


def _paraphrase(probe: dict, level: str) -> str:
    text = _repeats(probe, level)
    if not probe["n"] or level == "nominal":
        return text
    return f"{text} The other words moved the score by {number(probe['shift'])} on average."


def _self_preference(probe: dict, level: str) -> str:
    return (
        f"Judge less people: {number(probe['own'])} on the {probe['n_own']} answers of its own family, "
        f"{number(probe['other'])} on the {probe['n_other']} others; the first less the second is "
        f"{number(probe['difference'])}. Flagged when that interval lies above zero."
    )


_PROBES = {
    "order": ("Order", _order, "No verdicts in both orders (order first and second)."),
    "length": ("Length", _length, "No lengths (length, or the text of the answer)."),
    "repeats": ("Repeats", _repeats, "No answer was judged twice (repeat 0, 1, …)."),
    "paraphrase": ("Other words", _paraphrase, "No verdicts on answers in other words (condition paraphrase)."),
    "self_preference": ("Own family", _self_preference, "The judge’s family was not named."),
}
