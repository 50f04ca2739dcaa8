"""A Gradio Space for the measurement: questions go in as a table, shares, a chart and every decision come out.

Run it with `python app.py` in this folder; it needs `gradio` besides requirements.txt.
"""

from pathlib import Path

import evaluate
import gradio as gr

HERE = Path(__file__).resolve().parent
EXAMPLES = [
    ["Which plane is this?", "", "short questions"],
    ["What is the function of the liver?", "", "short questions"],
    ["What does this finding suggest?", "", "short questions"],
    ["What would you do next?", "A 60-year-old man presents with chest pain.", "case challenges"],
]


def measure(table):
    """Measures the rows of the table.

    Args:
        table (`list[list[str]]`): question, story of the case, benchmark.

    Returns:
        `tuple[dict, matplotlib.figure.Figure, list[list[str]]]`: the result, a chart, and the decision on each row.
    """
    rows = [[str(cell or "") for cell in row] for row in table if any(row)]
    if not rows:
        raise gr.Error("The table is empty.")
    try:
        result = evaluate.load(str(HERE / "question_type.py")).compute(
            questions=[row[0] for row in rows],
            contexts=[row[1] for row in rows],
            benchmarks=[row[2] or "all" for row in rows],
            return_rows=True,
        )
    except ValueError as error:
        raise gr.Error(str(error)) from error
    decisions = [[row["label"] or "undecided", row["rule"]] for row in result.pop("rows")]
    return result, draw(result["by_benchmark"]), decisions


def draw(by_benchmark):
    """Draws the shares with matplotlib.

    Args:
        by_benchmark (`dict[str, dict]`): a result for each benchmark.

    Returns:
        `matplotlib.figure.Figure`: one bar a benchmark.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 1 + 0.6 * len(by_benchmark)), layout="constrained")
    axes = figure.subplots()
    names, left = list(by_benchmark), [0.0] * len(by_benchmark)
    for kind, colour in (("knowledge", "#4c78a8"), ("inference", "#f58518"), ("undecided", "#c9c9c9")):
        counts = [by_benchmark[name]["counts"] for name in names]
        shares = [count[kind] / count["total"] for count in counts]
        axes.barh(names, shares, left=left, color=colour, label=kind)
        left = [start + share for start, share in zip(left, shares)]
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the questions")
    axes.legend()
    return figure


def build():
    """Builds the page.

    Returns:
        `gradio.Blocks`: the page, not yet launched.
    """
    card = (HERE / "README.md").read_text(encoding="utf-8").split("---", 2)[2]
    with gr.Blocks(title="question_type") as page:
        gr.Markdown("# question_type\nThe share of knowledge and inference questions, by rules.")
        table = gr.Dataframe(
            headers=["question", "story of the case", "benchmark"], value=EXAMPLES, type="array", label="Questions"
        )
        button = gr.Button("Measure", variant="primary")
        chart = gr.Plot(label="Shares")
        result = gr.JSON(label="Result")
        decisions = gr.Dataframe(headers=["type", "rule"], label="Decisions", interactive=False)
        button.click(measure, inputs=table, outputs=[result, chart, decisions])
        with gr.Accordion("Measurement card", open=False):
            gr.Markdown(card)
    return page


if __name__ == "__main__":
    build().launch()
