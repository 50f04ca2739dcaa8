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
        `tuple[matplotlib.figure.Figure, list[list], list[list[str]], dict]`: a chart, one line for each benchmark,
            the decision on each row, and the whole result.
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
    parts = result["by_benchmark"]
    shares = [[name, *_line(part)] for name, part in parts.items()]
    if len(parts) > 1:
        shares.append(["all", *_line(result)])
    decisions = [[row["label"] or "undecided", row["rule"]] for row in result.pop("rows")]
    return draw(parts), shares, decisions, result


def _line(part):
    share, counts = part["inference_share"], part["counts"]
    shown = "–" if share is None else f"{share:.2f}"
    if share is not None and part["ci95"]:
        shown += f" ({part['ci95'][0]:.2f} to {part['ci95'][1]:.2f})"
    return [shown, *(counts[name] for name in ("inference", "knowledge", "undecided", "total"))]


def draw(by_benchmark):
    """Draws the shares with matplotlib.

    Args:
        by_benchmark (`dict[str, dict]`): a result for each benchmark.

    Returns:
        `matplotlib.figure.Figure`: one bar a benchmark.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + 0.5 * len(by_benchmark)), layout="constrained")
    axes = figure.subplots()
    names, left = list(by_benchmark), [0.0] * len(by_benchmark)
    for kind, colour in (("knowledge", "#4c78a8"), ("inference", "#f58518"), ("undecided", "#c9c9c9")):
        counts = [by_benchmark[name]["counts"] for name in names]
        shares = [count[kind] / count["total"] for count in counts]
        axes.barh(names, shares, left=left, color=colour, label=kind)
        left = [start + share for start, share in zip(left, shares)]
    axes.invert_yaxis()  # the first on top, as in the table
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the questions")
    axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    return figure


def build():
    """Builds the page.

    Returns:
        `gradio.Blocks`: the page, not yet launched.
    """
    card = (HERE / "README.md").read_text(encoding="utf-8").split("---", 2)[2]
    with gr.Blocks(title="Question type") as page:
        gr.Markdown("# Question type\nThe share of knowledge and inference questions, by rules.")
        table = gr.Dataframe(
            headers=["question", "story of the case", "benchmark"],
            value=EXAMPLES,
            type="array",
            label="Questions",
            wrap=True,
        )
        button = gr.Button("Measure", variant="primary")
        chart = gr.Plot(label="Shares")
        shares = gr.Dataframe(
            headers=["benchmark", "share of inference", "inference", "knowledge", "undecided", "questions"],
            label="Shares, with 95 % intervals where they can be had",
            interactive=False,
        )
        decisions = gr.Dataframe(headers=["type", "rule"], label="Rows", interactive=False)
        with gr.Accordion("Full result", open=False):
            result = gr.JSON(label="Result")
        button.click(measure, inputs=table, outputs=[chart, shares, decisions, result])
        with gr.Accordion("Measurement card", open=False):
            gr.Markdown(card)
    return page


if __name__ == "__main__":
    build().launch()
