"""A Gradio Space for the metric: texts go in as a table, scores and the concepts of every row come out.

Run it with `python app.py` in this folder; it needs `gradio` besides requirements.txt.
"""

from pathlib import Path

import evaluate
import gradio as gr

HERE = Path(__file__).resolve().parent
EXAMPLES = [
    ["The heart is enlarged: cardiomegaly. No pneumothorax.", "Enlarged heart and pleural effusion."],
    ["No pneumonia but pleural effusions.", "Fluid around the lungs."],
    ["Pneumonia cannot be excluded.", "Pneumonia."],
]


def score(table, negation):
    """Scores the rows of the table with the linker `hpo`.

    Args:
        table (`list[list[str]]`): prediction and reference.
        negation (`str`): `"drop"`, `"keep"` or `"separate"`.

    Returns:
        `tuple[list[list[str]], list[list[str]], dict]`: the scores, for each row its rule, F1 and concepts, and the
            whole result.
    """
    rows = [[str(cell or "") for cell in row] for row in table if any(row)]
    if not rows:
        raise gr.Error("The table is empty.")
    try:
        result = evaluate.load(str(HERE / "umls_f1.py")).compute(
            predictions=[row[0] for row in rows],
            references=[row[1] for row in rows],
            negation=negation,
            return_rows=True,
        )
    except (ValueError, ImportError, RuntimeError) as error:
        raise gr.Error(str(error)) from error
    counts = result["counts"]
    names = ("precision", "recall", "f1")
    summary = [
        [
            f"mean of {counts['total']} rows, {counts['failed']} of them failed",
            *(_shown(result[key]) for key in names),
        ],
        ["all concepts together", *(_shown(result[f"micro_{key}"]) for key in names)],
    ]
    details = [
        [row["rule"], _shown(row["f1"]), _listed(row["prediction_concepts"]), _listed(row["reference_concepts"])]
        for row in result.pop("rows")
    ]
    return summary, details, result


def _shown(value):
    return "–" if value is None else f"{value:.2f}"


def _listed(concepts):
    return "; ".join(f"{name} ({concept})" for concept, name in concepts.items())


def build():
    """Builds the page.

    Returns:
        `gradio.Blocks`: the page, not yet launched.
    """
    card = (HERE / "README.md").read_text(encoding="utf-8").split("---", 2)[2]
    with gr.Blocks(title="UMLS F1") as page:
        gr.Markdown("# UMLS F1\nSet F1 over the medical concepts that a text and its reference mention.")
        table = gr.Dataframe(
            headers=["prediction", "reference"], value=EXAMPLES, type="array", label="Texts", wrap=True
        )
        negation = gr.Radio(["drop", "keep", "separate"], value="drop", label="Denied findings")
        button = gr.Button("Score", variant="primary")
        summary = gr.Dataframe(headers=["", "precision", "recall", "F1"], label="Scores", interactive=False)
        details = gr.Dataframe(
            headers=["rule", "F1", "concepts of the prediction", "concepts of the reference"],
            label="Rows",
            interactive=False,
            wrap=True,
        )
        with gr.Accordion("Full result", open=False):
            result = gr.JSON(label="Result")
        button.click(score, inputs=[table, negation], outputs=[summary, details, result])
        with gr.Accordion("Metric card", open=False):
            gr.Markdown(card)
    return page


if __name__ == "__main__":
    build().launch()
