"""A Gradio Space for the metric: answers go in as a table, the judge's decisions and the result come out.

Run it with `python app.py` in this folder; it needs `gradio` besides requirements.txt. The judge's address and model
are read from the environment (`JUDGE_BASE_URL`, `JUDGE_MODEL`), its key from `OPENAI_API_KEY`: whoever runs the Space
pays, so a visitor cannot choose where texts go. Without a model it only counts the calls.
"""

import os
from pathlib import Path

import evaluate
import gradio as gr

from semihv_hf.errors import SemiHVError

HERE = Path(__file__).resolve().parent
CONFIGURATIONS = ("hit", "jama", "relative", "pairwise")
MOST_ROWS = 20
EXAMPLES = [
    ["What does the film show?", "pneumothorax", "a collapsed lung with air around it"],
    ["Is the mass benign?", "no", "No."],
    ["Which modality is this?", "magnetic resonance imaging", "MRI"],
]


def judge(table, configuration):
    """Judges the rows of the table.

    Args:
        table (`list[list[str]]`): question, reference and answer.
        configuration (`str`): one of `CONFIGURATIONS`.

    Returns:
        `tuple[str, list[list], dict]`: the result in words, score, rule or judge, and reason of each row, and the
            whole result.
    """
    rows = [[str(cell or "") for cell in row] for row in table if any(row)]
    if not rows or len(rows) > MOST_ROWS:
        raise gr.Error(f"The table has {len(rows)} rows; it takes 1 to {MOST_ROWS}.")
    model = os.environ.get("JUDGE_MODEL")
    base_url = os.environ.get("JUDGE_BASE_URL")
    try:
        result = evaluate.load(str(HERE / "gpt4_judge.py"), configuration).compute(
            predictions=[row[2] for row in rows],
            references=[row[1] for row in rows],
            questions=[row[0] for row in rows],
            base_url=base_url,
            model=model or "gpt-4o-2024-11-20",
            dry_run=model is None,
            max_failure_rate=1.0,
        )
    except SemiHVError as error:
        raise gr.Error(str(error)) from error
    decisions = [
        [row["score"], row["rule"] or row["decided_by"] or row["failure"], row["reason"] or ""]
        for row in result.pop("rows", [])
    ]
    return summarise(result), decisions, result


def summarise(result):
    """The result in words.

    Args:
        result (`dict`): what the metric computed, or what a dry run counted.

    Returns:
        `str`: Markdown.
    """
    if result.get("dry_run"):
        cost = result["estimate"]["cost_usd"]
        price = "its price is not known" if cost is None else f"about {cost:.2g} US dollars"
        return (
            f"**Nothing was sent**: this Space has no judge (`JUDGE_MODEL` is not set). For {result['n_total']} rows"
            f" it would ask {result['model_requested']} {result['n_calls']} times, {price}."
        )
    if result["mean"] is None:
        return f"**No row has a score**: {result['n_failed']} of {result['n_total']} failed."
    interval = "" if result["ci95"] is None else f" (95 % interval {result['ci95'][0]:.2f} to {result['ci95'][1]:.2f})"
    return (
        f"**Mean {result['mean']:.2f}**{interval} on a scale of {result['scale'][0]:g} to {result['scale'][1]:g}, over"
        f" {result['n_scored']} of {result['n_total']} rows; {result['n_failed']} failed and have no score."
    )


def build():
    """Builds the page.

    Returns:
        `gradio.Blocks`: the page, not yet launched.
    """
    card = (HERE / "README.md").read_text(encoding="utf-8").split("---", 2)[2]
    with gr.Blocks(title="GPT-4 Judge") as page:
        gr.Markdown("# GPT-4 Judge\nA language model as the judge of medical answers, whose failures stay failures.")
        configuration = gr.Radio(list(CONFIGURATIONS), value="hit", label="Configuration")
        table = gr.Dataframe(
            headers=["question", "reference", "answer"], value=EXAMPLES, type="array", label="Answers", wrap=True
        )
        button = gr.Button("Judge", variant="primary")
        summary = gr.Markdown()
        decisions = gr.Dataframe(headers=["score", "decided by", "reason"], label="Rows", interactive=False, wrap=True)
        with gr.Accordion("Full result", open=False):
            result = gr.JSON(label="Result")
        button.click(judge, inputs=[table, configuration], outputs=[summary, decisions, result])
        with gr.Accordion("Metric card", open=False):
            gr.Markdown(card)
    return page


if __name__ == "__main__":
    build().launch()
