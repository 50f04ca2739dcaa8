"""Geometry of the small charts in the report; the template draws them as inline SVG."""

import math

# The drawing area of a panel in SVG units; the template leaves room for the labels around it.
WIDTH, HEIGHT = 300.0, 140.0
MOST_POINTS = 400


def loss_panel(log: list[dict]) -> dict | None:
    """Turns a training log into a line.

    Args:
        log (`list[dict]`): entries with `step` and `loss`; entries without a finite loss (summaries, evaluations) are
            passed over.

    Returns:
        `dict | None`: `points` for an SVG polyline, `x_ticks` and `y_ticks` (position and label), and the numbers
        `first`, `last`, `lowest`, `steps`; `None` when there is no loss to draw.
    """
    pairs = [
        (float(entry["step"]), float(entry["loss"]))
        for entry in log
        if entry.get("loss") is not None and entry.get("step") is not None and math.isfinite(entry["loss"])
    ]
    if not pairs:
        return None
    drawn = pairs[:: math.ceil(len(pairs) / MOST_POINTS)]
    if drawn[-1] != pairs[-1]:
        drawn.append(pairs[-1])
    top = nice_ceiling(max(loss for _, loss in pairs))
    start, end = pairs[0][0], pairs[-1][0]
    span = (end - start) or 1.0
    points = " ".join(
        f"{(step - start) / span * WIDTH:.1f},{HEIGHT - max(loss, 0.0) / top * HEIGHT:.1f}" for step, loss in drawn
    )
    return {
        "points": points,
        "x_ticks": [{"at": 0.0, "label": f"{start:g}"}, {"at": WIDTH, "label": f"{end:g}"}],
        "y_ticks": [{"at": HEIGHT * (1 - part), "label": f"{top * part:g}"} for part in (0.0, 0.5, 1.0)],
        "first": pairs[0][1],
        "last": pairs[-1][1],
        "lowest": min(loss for _, loss in pairs),
        "steps": len(pairs),
        "drawn": len(drawn),
    }


def nice_ceiling(value: float) -> float:
    """Rounds up to 1, 2, 4, 5 or 10 times a power of ten, so that axis labels are short.

    Args:
        value (`float`): the largest value to show.

    Returns:
        `float`: a positive number not below `value`.
    """
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 10) if step * power >= value - 1e-12)
