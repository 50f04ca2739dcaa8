"""A Gradio Space for the metric: answers go in as a table, scores and the decision on every row come out.

Run it with `python app.py` in this folder; it needs `gradio` besides requirements.txt.
"""

from pathlib import Path

HERE = Path(__file__).resolve().parent
EXAMPLES = [
    ["No acute abnormality.", "No acute cardiopulmonary abnormality."],
    ["There is a small left pleural effusion.", "Small left pleural effusion."],
]


def score(table):
    """Scores the rows of the table.

    Args:
        table (`list[list[str]]`): generated report and reference report.

    Returns:
        `tuple[dict, list[list[str]]]`: the result, and four scores for each row of the table.
    """
    import evaluate
    import gradio as gr

    rows = [[str(cell or "") for cell in row] for row in table if any(row)]
    if not rows:
        raise gr.Error("The table is empty.")
    try:
        result = evaluate.load(str(HERE / "report_text.py")).compute(
            predictions=[row[0] for row in rows],
            references=[row[1] for row in rows],
            return_rows=True,
        )
    except (ImportError, ValueError) as error:
        raise gr.Error(str(error)) from error
    decisions = [[row[name] for name in ("rouge1_f1", "rougeL_f1", "bleu", "meteor")] for row in result.pop("rows")]
    return result, decisions


def build():
    """Builds the page.

    Returns:
        `gradio.Blocks`: the page, not yet launched.
    """
    import gradio as gr

    card = (HERE / "README.md").read_text(encoding="utf-8").split("---", 2)[2]
    with gr.Blocks(title="report_text") as page:
        gr.Markdown("# report_text\nROUGE, BLEU and METEOR of generated reports.")
        table = gr.Dataframe(
            headers=["generated report", "reference report"], value=EXAMPLES, type="array", label="Answers"
        )
        button = gr.Button("Score", variant="primary")
        result = gr.JSON(label="Result")
        decisions = gr.Dataframe(headers=["ROUGE-1", "ROUGE-L", "BLEU", "METEOR"], label="Rows", interactive=False)
        button.click(score, inputs=table, outputs=[result, decisions])
        with gr.Accordion("Metric card", open=False):
            gr.Markdown(card)
    return page


if __name__ == "__main__":
    build().launch()
