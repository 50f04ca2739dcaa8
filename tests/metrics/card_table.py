"""Reads the table of hand-made cases out of a metric card."""

BLANKS = {"(empty)": "", "(blank)": " "}


def read_table(card, first_column):
    """The rows of the table whose header starts with the given cells.

    Args:
        card (`Path`): the metric's README.md.
        first_column (`str`): how the header line starts.

    Returns:
        `list[list[str]]`: the cells of each row.
    """
    lines = card.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(first_column))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return rows


def text_of(cell):
    """The text that a cell shows: in back quotes, or named where it is empty."""
    return BLANKS[cell] if cell in BLANKS else cell.strip("`")


def shown(values):
    """Numbers as the cards print them."""
    return values if isinstance(values, str) else " / ".join(f"{value:.2f}" for value in values)
