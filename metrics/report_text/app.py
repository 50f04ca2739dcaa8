"""A Gradio Space for the metric: answers go in as a table, scores and the decision on every row come out.

Run it with `python app.py` in this folder; it needs `gradio` besides requirements.txt.
"""

from pathlib import Path

HERE = Path(__file__).resolve().parent
EXAMPLES = [
    ["No acute abnormality.", "No acute cardiopulmonary abnormality."],
    ["There is a small left pleural effusion.", "Small left pleural effusion."],
]
# The scores that are shown, with their titles and scales.
SHOWN = {
    "rouge1_f1": ("ROUGE-1 F1", ", 0 to 1"),
    "rougeL_f1": ("ROUGE-L F1", ", 0 to 1"),
    "bleu": ("BLEU", ", 0 to 100"),
    "meteor": ("METEOR", ", 0 to 1"),
}


def score(table):
    """Scores the rows of the table.

    Args:
        table (`list[list[str]]`): generated report and reference report.

    Returns:
        `tuple[list[list[str]], list[list[str]], dict]`: the scores, four scores for each row of the table, and the
            whole result.
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
    counts = result["counts"]
    of = [counts["total"], counts["failed"]]
    summary = [[f"{title}{scale}", _shown(result[name]), *of] for name, (title, scale) in SHOWN.items()]
    summary[-1][0] += f", by {' and '.join(result['settings']['meteor_stages'])}"  # with synonyms only given WordNet
    decisions = [[_shown(row[name]) for name in SHOWN] for row in result.pop("rows")]
    return summary, decisions, result


def _shown(value):
    return "–" if value is None else f"{value:.2f}"


def build():
    """Builds the page.

    Returns:
        `gradio.Blocks`: the page, not yet launched.
    """
    import gradio as gr

    card = (HERE / "README.md").read_text(encoding="utf-8").split("---", 2)[2]
    with gr.Blocks(title="Report text") as page:
        gr.Markdown(
            "# Report text\nROUGE, BLEU and METEOR of generated reports: how far the words agree, not the findings."
        )
        table = gr.Dataframe(
            headers=["generated report", "reference report"],
            value=EXAMPLES,
            type="array",
            label="Reports",
            wrap=True,
        )
        button = gr.Button("Score", variant="primary")
        summary = gr.Dataframe(headers=["score", "value", "rows", "failed"], label="Scores", interactive=False)
        titles = [title for title, _ in SHOWN.values()]
        decisions = gr.Dataframe(headers=titles, label="Rows", interactive=False)
        with gr.Accordion("Full result", open=False):
            result = gr.JSON(label="Result")
        button.click(score, inputs=table, outputs=[summary, decisions, result])
        with gr.Accordion("Metric card", open=False):
            gr.Markdown(card)
    return page


if __name__ == "__main__":
    build().launch()
