"""A Gradio Space for the metric: answers go in as a table, scores and the decision on every row come out.

Run it with `python app.py` in this folder; it needs `gradio` besides requirements.txt.
"""

from pathlib import Path

HERE = Path(__file__).resolve().parent
EXAMPLES = [
    ["Answer: (B)", "B", "axial; coronal; sagittal"],
    ["A or B", "A", "axial; coronal; sagittal"],
    ["an axial slice", "axial", "axial; coronal; sagittal"],
]


def score(table):
    """Scores the rows of the table.

    Args:
        table (`list[list[str]]`): prediction, right option (label or text), and options separated by semicolons.

    Returns:
        `tuple[list[list[str]], list[list[str]], dict]`: the scores, option read, outcome and rule for each row of the
            table, and the whole result.
    """
    import evaluate
    import gradio as gr

    rows = [[str(cell or "") for cell in row] for row in table if any(row)]
    if not rows:
        raise gr.Error("The table is empty.")
    try:
        result = evaluate.load(str(HERE / "multiple_choice.py")).compute(
            predictions=[row[0] for row in rows],
            references=[row[1] for row in rows],
            options=[[option.strip() for option in row[2].split(";") if option.strip()] for row in rows],
            return_rows=True,
        )
    except (ImportError, ValueError) as error:
        raise gr.Error(str(error)) from error
    decisions = [[row["label"] or "–", row["outcome"], row["rule"]] for row in result.pop("rows")]
    return summarise(result), decisions, result


def summarise(result):
    """The scores in words.

    Args:
        result (`dict`): what the metric computed.

    Returns:
        `list[list]`: name, value, over how many rows, and how many of these failed.
    """
    counts, majority = result["counts"], result["baselines"]["majority"]
    total, failed = counts["total"], counts["failed"]
    parsed = counts["scored"] - counts["unparsed"]
    lines = [
        ["accuracy", result["accuracy"], total, failed],
        ["accuracy of the answers that name one option", result["accuracy_parsed"], parsed, 0],
        ["guessing", result["baselines"]["chance"], total, 0],
    ]
    if majority:
        lines.append([f"always {majority['label']}, the commonest right option", majority["accuracy"], total, 0])
    return [[name, "–" if value is None else f"{value:.2f}", *of] for name, value, *of in lines]


def build():
    """Builds the page.

    Returns:
        `gradio.Blocks`: the page, not yet launched.
    """
    import gradio as gr

    card = (HERE / "README.md").read_text(encoding="utf-8").split("---", 2)[2]
    with gr.Blocks(title="Multiple choice") as page:
        gr.Markdown("# Multiple choice\nAn answer counts by its letter, else by an option's text, else not at all.")
        table = gr.Dataframe(
            headers=["prediction", "right option", "options (separated by ;)"],
            value=EXAMPLES,
            type="array",
            label="Answers",
            wrap=True,
        )
        button = gr.Button("Score", variant="primary")
        summary = gr.Dataframe(headers=["score", "value", "rows", "failed"], label="Scores", interactive=False)
        decisions = gr.Dataframe(headers=["option read", "outcome", "rule"], label="Rows", interactive=False)
        with gr.Accordion("Full result", open=False):
            result = gr.JSON(label="Result")
        button.click(score, inputs=table, outputs=[summary, decisions, result])
        with gr.Accordion("Metric card", open=False):
            gr.Markdown(card)
    return page


if __name__ == "__main__":
    build().launch()
