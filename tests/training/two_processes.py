"""A tiny PMC-Cambrian and a mixed dataset on disk, and runs of recipes/sft.py on them in processes of their own."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

from small_cambrian import small_model, small_processor

ROOT = Path(__file__).parents[2]
STEPS = 20
RECIPE = """
stage: 2_instruction
title: Instruction tuning
trainable:
  - model\\.connector\\..*
  - model\\.language_model\\..*
learning_rates: {"model\\\\.connector\\\\..*": 2.0e-3}
assistant_only_loss: true
max_length: 512
bf16: false
activation_checkpointing: false
learning_rate: 1.0e-3
logging_steps: 1
lr_scheduler_type: constant
max_grad_norm: 1.0
report_to: none
save_strategy: "no"
seed: 3
use_cpu: true
"""


def write_inputs(folder: Path, text_model: Path, picture, harder: bool = False) -> None:
    """`model`, `data` (every other row text only) and `recipe.yaml` in a folder. If it is to be `harder`, one global
    batch of four has no image, and those of two rows do not decode: of two processes both meet the first of these."""
    from datasets import Dataset, Features, Image, List, Value

    from semihv_hf.data.messages import message
    from semihv_hf.models.export import save_checkpoint

    processor = small_processor(text_model)
    # One decoder layer after the last sampler: what a sampler makes of an image counts only if a layer reads it.
    text = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 4, "vocab_size": 400, "pad_token_id": 0}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2}
    save_checkpoint(small_model(processor, text_config=text), processor, folder / "model")
    from semihv_hf.training.lengths import row_lengths

    # Sorted by length, every global batch of four has two rows with images, then two of text: one kind a process.
    rows = []
    for number in range(24):
        block, place = divmod(number, 4)
        images = [picture(40 + 3 * number, 60, seed=number)] if place < 2 else []
        if harder and block == 3:
            images = []
        if harder and number in (22, 23):
            images = [{"bytes": cut(picture(40, 60)), "path": None}]  # its header is whole
            place = {22: 1, 23: 3}[number]  # the first is as long as the row before, and comes before or after it
        answer = message("assistant", "Yes." if number % 3 else "No, it is not.")
        row = {"messages": [message("user", "Is it so?", len(images)), answer], "images": images}
        filler = "z" * (100 + 20 * block - 4 * place - row_lengths([row], processor)[0])
        row["messages"] = [message("user", f"Is it so?{filler}", len(images)), answer]
        rows.append({"id": f"row-{number}", "source": "made", "licence": "CC0-1.0", **row})
    part = {"type": Value("string"), "text": Value("string")}
    text = dict.fromkeys(("id", "source", "licence"), Value("string"))
    features = Features(
        text | {"messages": List({"role": Value("string"), "content": List(part)}), "images": List(Image())}
    )
    (folder / "data").mkdir()
    Dataset.from_list(rows, features=features).to_parquet(folder / "data" / "train.parquet")
    (folder / "recipe.yaml").write_text(RECIPE)


def cut(image) -> bytes:
    """The first half of a file."""
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()[: len(data.getvalue()) // 2]


def command(folder: Path, name: str, launcher: list[str], *options) -> list[str]:
    """The script with the recipe, model and data of a folder; writes to `name` there."""
    arguments = {"--config": folder / "recipe.yaml", "--model": folder / "model", "--dataset": folder / "data"}
    return [
        *(sys.executable, *launcher, str(ROOT / "recipes" / "sft.py")),
        *(str(word) for pair in arguments.items() for word in pair),
        *("--output_dir", str(folder / name), *map(str, options)),
    ]


def surroundings(**environment) -> dict[str, str]:
    """Environment of a run."""
    # DeepSpeed compiles with the ninja of this environment, so that what it compiled once is found again.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "OMP_NUM_THREADS": "1", **environment}


def launch(
    folder: Path, name: str, launcher: list[str], *options, check: bool = True, timeout: int = 900, **environment
):
    """Runs the script; returns its record and checkpoint folder, or the finished process if it may fail."""
    done = subprocess.run(
        command(folder, name, launcher, *options),
        env=surroundings(**environment),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if not check:
        return done
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return json.loads((folder / name / "stage.json").read_text()), folder / name


def accelerate(file: str, processes: int = 2, port: int = 0) -> list[str]:
    """`accelerate launch` with one of the repository's files."""
    path = file if "/" in file else str(ROOT / "recipes" / "accelerate" / f"{file}.yaml")
    return [
        *("-m", "accelerate.commands.launch", "--config_file", path),
        *("--num_processes", str(processes), "--main_process_port", str(port)),
    ]


def torchrun(processes: int = 2) -> list[str]:
    """`torchrun` on this machine."""
    return ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]


def losses(record: dict) -> list[float]:
    """The loss of every step."""
    return [entry["loss"] for entry in record["log"]]
