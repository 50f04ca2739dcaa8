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
        `tuple[dict, list[list[str]]]`: the result, and label, outcome and rule for each row of the table.
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
    decisions = [[row["label"] or "", row["outcome"], row["rule"]] for row in result.pop("rows")]
    return result, decisions


def build():
    """Builds the page.

    Returns:
        `gradio.Blocks`: the page, not yet launched.
    """
    import gradio as gr

    card = (HERE / "README.md").read_text(encoding="utf-8").split("---", 2)[2]
    with gr.Blocks(title="multiple_choice") as page:
        gr.Markdown("# multiple_choice\nLetter, then option text, then nothing.")
        table = gr.Dataframe(
            headers=["prediction", "right option", "options (separated by ;)"],
            value=EXAMPLES,
            type="array",
            label="Answers",
        )
        button = gr.Button("Score", variant="primary")
        result = gr.JSON(label="Result")
        decisions = gr.Dataframe(headers=["label", "outcome", "rule"], label="Rows", interactive=False)
        button.click(score, inputs=table, outputs=[result, decisions])
        with gr.Accordion("Metric card", open=False):
            gr.Markdown(card)
    return page


if __name__ == "__main__":
    build().launch()
