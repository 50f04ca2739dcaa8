"""The share per benchmark as a picture: one SVG text, with nothing outside it."""

from html import escape

_COLOURS = {"knowledge": "#4c78a8", "inference": "#f58518", "undecided": "#c9c9c9"}
_LEFT, _WIDTH, _BAR, _STEP, _TOP = 170, 520, 26, 48, 64


def draw_shares(by_benchmark, title="Knowledge and inference questions"):
    """Draws one bar a benchmark: knowledge, inference and undecided questions as parts of all its questions.

    Args:
        by_benchmark (`dict[str, dict]`): for each benchmark a result of the metric, as in `by_benchmark`.
        title (`str`, *optional*): stands above.

    Returns:
        `str`: an SVG picture. The whisker is the 95 % interval of the inference share among the decided questions;
        it is drawn where every question is decided, since only then the bar has the same denominator.
    """
    height = _TOP + _STEP * len(by_benchmark) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 90} {height}" role="img" '
        f'font-family="sans-serif" font-size="13"><title>{escape(title)}</title>',
        f'<text x="8" y="20" font-size="16" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (name, colour) in enumerate(_COLOURS.items()):
        x = _LEFT + 120 * number
        parts.append(f'<rect x="{x}" y="34" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18}" y="45">{name}</text>')
    for number, (name, result) in enumerate(by_benchmark.items()):
        parts.extend(_bar(name, result, _TOP + _STEP * number))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(name, result, top):
    counts = result["counts"]
    total, x = counts["total"], float(_LEFT)
    yield f'<text x="{_LEFT - 8}" y="{top + 18}" text-anchor="end">{escape(str(name))}</text>'
    for kind, colour in _COLOURS.items():
        width = _WIDTH * counts[kind] / total if total else 0.0
        if not width:
            continue
        yield f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>'
        if width > 40:
            label = f"{100 * counts[kind] / total:.0f} %"
            yield f'<text x="{x + width / 2:.1f}" y="{top + 18}" text-anchor="middle" fill="white">{label}</text>'
        x += width
    if result["ci95"] and not counts["undecided"]:
        ends = [_LEFT + _WIDTH * (1 - end) for end in result["ci95"]]
        yield f'<path d="M{ends[0]:.1f} {top + _BAR + 5}H{ends[1]:.1f}" stroke="#222" stroke-width="2"/>'
    yield f'<text x="{_LEFT + _WIDTH + 8}" y="{top + 18}">n = {total}</text>'
