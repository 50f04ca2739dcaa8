"""A Gradio Space for the metric: answers go in as a table, scores and the decision on every row come out.

Run it with `python app.py` in this folder; it needs `gradio` besides requirements.txt.
"""

from pathlib import Path

import evaluate
import gradio as gr

HERE = Path(__file__).resolve().parent
EXAMPLES = [
    ["The heart looks normal", "no", "yes; no"],
    ["It is not axial, but coronal", "coronal", "axial; coronal"],
    ["CT of the chest", "chest CT", ""],
]


def score(table):
    """Scores the rows of the table.

    Args:
        table (`list[list[str]]`): prediction, reference, and options separated by semicolons
            (empty: an open question).

    Returns:
        `tuple[list[list[str]], list[list[str]], dict]`: the scores, kind, outcome and rule for each row of the table,
            and the whole result.
    """
    rows = [[str(cell or "") for cell in row] for row in table if any(row)]
    if not rows:
        raise gr.Error("The table is empty.")
    try:
        result = evaluate.load(str(HERE / "medical_vqa.py")).compute(
            predictions=[row[0] for row in rows],
            references=[row[1] for row in rows],
            options=[[option.strip() for option in row[2].split(";") if option.strip()] for row in rows],
            return_rows=True,
        )
    except ValueError as error:
        raise gr.Error(str(error)) from error
    decisions = [[row["answer_type"], row["outcome"], row["rule"]] for row in result.pop("rows")]
    return summarise(result), decisions, result


def summarise(result):
    """The scores in words.

    Args:
        result (`dict`): what the metric computed.

    Returns:
        `list[list]`: name, value, over how many rows, and how many of these failed.
    """
    lines = []
    for kind, names in (("closed", ["accuracy"]), ("open", ["recall", "precision", "f1", "exact_match", "bleu_1"])):
        counts = result["counts"][kind]
        of = (counts["total"], counts["failed"])
        lines += [(f"{kind} {name}", result[f"{kind}_{name}"], *of) for name in names if counts["total"]]
    return [[name.replace("_", " "), "–" if value is None else f"{value:.2f}", *of] for name, value, *of in lines]


def build():
    """Builds the page.

    Returns:
        `gradio.Blocks`: the page, not yet launched.
    """
    card = (HERE / "README.md").read_text(encoding="utf-8").split("---", 2)[2]
    with gr.Blocks(title="Medical VQA") as page:
        gr.Markdown("# Medical VQA\nClosed accuracy and open token scores, with every row accounted for.")
        table = gr.Dataframe(
            headers=["prediction", "reference", "options (separated by ;)"],
            value=EXAMPLES,
            type="array",
            label="Answers",
            wrap=True,
        )
        button = gr.Button("Score", variant="primary")
        summary = gr.Dataframe(headers=["score", "value", "rows", "failed"], label="Scores", interactive=False)
        decisions = gr.Dataframe(headers=["answer type", "outcome", "rule"], label="Rows", interactive=False)
        with gr.Accordion("Full result", open=False):
            result = gr.JSON(label="Result")
        button.click(score, inputs=table, outputs=[summary, decisions, result])
        with gr.Accordion("Metric card", open=False):
            gr.Markdown(card)
    return page


if __name__ == "__main__":
    build().launch()
