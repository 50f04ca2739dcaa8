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
        `tuple[dict, list[list]]`: the result, and score, rule or judge, and reason of each row.
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
    return result, decisions


def build():
    """Builds the page.

    Returns:
        `gradio.Blocks`: the page, not yet launched.
    """
    card = (HERE / "README.md").read_text(encoding="utf-8").split("---", 2)[2]
    with gr.Blocks(title="gpt4_judge") as page:
        gr.Markdown("# gpt4_judge\nA language model as the judge of medical answers, whose failures stay failures.")
        configuration = gr.Radio(list(CONFIGURATIONS), value="hit", label="Configuration")
        table = gr.Dataframe(
            headers=["question", "reference", "answer"], value=EXAMPLES, type="array", label="Answers"
        )
        button = gr.Button("Judge", variant="primary")
        result = gr.JSON(label="Result")
        decisions = gr.Dataframe(headers=["score", "decided by", "reason"], label="Decisions", interactive=False)
        button.click(judge, inputs=[table, configuration], outputs=[result, decisions])
        with gr.Accordion("Metric card", open=False):
            gr.Markdown(card)
    return page


if __name__ == "__main__":
    build().launch()
