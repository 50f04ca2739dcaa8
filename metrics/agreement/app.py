"""A Gradio Space for the metric: a table of scores goes in, agreement with its intervals comes out.

Run it with `python app.py` in this folder; it needs `gradio` besides requirements.txt.
"""

from pathlib import Path

import evaluate
import gradio as gr

HERE = Path(__file__).resolve().parent
LEVELS = ["ordinal", "nominal", "interval"]
EXAMPLES = [
    ["case 1", "4", "4", "5"],
    ["case 1", "2", "2", "2"],
    ["case 2", "5", "4", "4"],
    ["case 2", "", "1", "2"],
    ["case 3", "1", "1", "1"],
    ["case 4", "3", "3", ""],
]


def compare(table, level):
    """Compares the columns of the table.

    Args:
        table (`list[list[str]]`): case, the judge's score, and the scores of two people; an empty cell is a gap.
        level (`str`): the level of measurement.

    Returns:
        `tuple[list[list[str]], dict]`: one line for each statistic, and the whole result.
    """
    rows = [[str("" if cell is None else cell).strip() for cell in row] for row in table]
    rows = [row for row in rows if any(row)]
    if not rows:
        raise gr.Error("The table is empty.")
    try:
        scores = [[_score(cell, level) for cell in row[1:]] for row in rows]
        result = evaluate.load(str(HERE / "agreement.py")).compute(
            predictions=[row[0] for row in scores],
            references=[row[1:] for row in scores],
            case_ids=[row[0] or f"row {number}" for number, row in enumerate(rows)],
            level=level,
        )
    except ValueError as error:
        raise gr.Error(str(error)) from error
    people = (result["ceiling"] or {}).get("people", {})
    lines = [[name, _shown(entry), _shown(people.get(name))] for name, entry in result["judge"].items()]
    among_all, among_people = result["alpha"]["judge_and_people"], result["alpha"]["people"]
    lines += [[f"krippendorff_{name}", _shown(among_all[name]), _shown(among_people[name])] for name in among_all]
    return lines, result


def _score(cell, level):
    if not cell:
        return None
    return cell if level == "nominal" else float(cell)


def _shown(entry):
    if entry is None or entry["value"] is None:
        return "–"
    if entry["ci95"] is None:
        return f"{entry['value']:.2f}"
    return f"{entry['value']:.2f} ({entry['ci95'][0]:.2f} to {entry['ci95'][1]:.2f})"


def build():
    """Builds the page.

    Returns:
        `gradio.Blocks`: the page, not yet launched.
    """
    card = (HERE / "README.md").read_text(encoding="utf-8").split("---", 2)[2]
    with gr.Blocks(title="Agreement") as page:
        gr.Markdown("# Agreement\nA judge beside people, and people beside each other. An empty cell is a gap.")
        table = gr.Dataframe(
            headers=["case", "judge", "person 1", "person 2"], value=EXAMPLES, type="array", label="Scores"
        )
        level = gr.Dropdown(LEVELS, value=LEVELS[0], label="Level of measurement")
        button = gr.Button("Compare", variant="primary")
        lines = gr.Dataframe(
            headers=["statistic", "judge with people", "people with each other"],
            label="Agreement, with 95 % intervals",
            interactive=False,
        )
        with gr.Accordion("Full result", open=False):
            result = gr.JSON(label="Result")
        button.click(compare, inputs=[table, level], outputs=[lines, result])
        with gr.Accordion("Metric card", open=False):
            gr.Markdown(card)
    return page


if __name__ == "__main__":
    build().launch()
