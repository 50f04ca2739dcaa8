"""The quickstart end to end at its tiny size, and what it leaves behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from readme_commands import CHEAP, RUN, blocks, environment, installed_by_make, make
from readme_commands import run as run_command

STAGES = ("0_warmup", "1_alignment", "2_instruction", "3_annealing")
LOADER = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "semihv_hf":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

folder, picture = sys.argv[1:]
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
messages = [{"role": "user", "content": [
    {"type": "image", "image": Image.open(picture)}, {"type": "text", "text": "What imaging modality is this?"}]}]
inputs = processor.apply_chat_template(
    messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=5, min_new_tokens=2)
assert "semihv_hf" not in sys.modules
print("NEW TOKENS", output.shape[1] - inputs["input_ids"].shape[1])
"""


@pytest.fixture(scope="module")
def run(tiny_run) -> Path:
    return tiny_run / "runs" / "quickstart"


def test_every_stage_left_a_complete_checkpoint(run):
    for stage in STAGES:
        folder = run / "checkpoints" / stage
        record = json.loads((folder / "stage.json").read_text())
        assert record["log"] and record["trainable"]["parameters"] > 0
        assert record["frozen"]["bit_identical"] is True
        assert not list(folder.glob("*.bin"))
        assert (folder / "model.safetensors").stat().st_size > 0


def test_every_stage_has_a_model_card_and_only_the_last_states_scores(run):
    cards = {stage: (run / "checkpoints" / stage / "README.md").read_text() for stage in STAGES[1:]}
    assert len(cards) == 3
    assert [stage for stage, card in cards.items() if "closed-question accuracy" in card] == ["3_annealing"]


def test_the_last_checkpoint_may_be_published(run):
    """The gate finds the records of all stages, and every file may leave."""
    from semihv_hf.hub.publish import publish

    shown = publish("model", run / "checkpoints" / "3_annealing", "clinic/small", dry_run=True)
    assert shown.decisions and all(each.decision.allowed for each in shown.decisions)
    files = {file.name for file in shown.files}
    assert {"README.md", "model.safetensors", "stage.json", "code_manifest.json"} <= files


def test_stages_train_what_their_recipes_say(run):
    records = {stage: json.loads((run / "checkpoints" / stage / "stage.json").read_text()) for stage in STAGES}
    assert all("vision_towers" in n or "connector" in n for n in records["0_warmup"]["trainable"]["names"])
    for name in records["1_alignment"]["trainable"]["names"]:
        assert name.startswith(("model.connector.", "model.language_model.vision_samplers."))
    assert any("self_attn" in name for name in records["2_instruction"]["trainable"]["names"])
    for stage in STAGES[1:]:
        assert not any("vision_towers" in name for name in records[stage]["trainable"]["names"])


def test_frozen_parameters_are_those_of_the_stage_before(run):
    from safetensors.torch import load_file

    tensors = {stage: load_file(run / "checkpoints" / stage / "model.safetensors") for stage in STAGES}
    for before, after in zip(STAGES, STAGES[1:]):
        names = json.loads((run / "checkpoints" / after / "stage.json").read_text())["trainable"]["names"]
        assert tensors[before].keys() == tensors[after].keys()
        changed = {n for n in tensors[after] if not tensors[before][n].equal(tensors[after][n])}
        assert changed and changed <= set(names)


def test_scores_and_report_agree(run):
    report = json.loads((run / "report.json").read_text())
    scores = json.loads((run / "scores.json").read_text())
    assert scores["verdict"]["n"] > 0
    for key in ("accuracy", "n", "n_failed", "required_margin"):
        assert report["headline"][key] == scores["verdict"][key]
    page = (run / "report.html").read_text()
    assert "data:image/" in page and "not for clinical use" in page.lower()
    assert json.loads((run / "manifest.json").read_text())["checkpoint"] == "checkpoints/3_annealing"


def test_the_checkpoint_answers_where_this_package_is_not_importable(run, run_python, tmp_path):
    from PIL import Image

    picture = tmp_path / "image.png"
    Image.linear_gradient("L").resize((90, 60)).save(picture)
    done = run_python(
        LOADER, run / "checkpoints" / "3_annealing", picture, cwd=tmp_path, PYTHONPATH="", HF_HOME=str(tmp_path / "hf")
    )
    assert "NEW TOKENS" in done.stdout and int(done.stdout.split("NEW TOKENS")[1].split()[0]) >= 2


def test_a_second_run_reuses_every_step(tiny_run, tiny_text_model, semihv):
    run = tiny_run / "runs" / "quickstart"
    before = {path: path.stat().st_mtime_ns for path in run.glob("checkpoints/*/model.safetensors")}
    assert len(before) == 4
    done = semihv("quickstart", "--size", "tiny", "--text-model", tiny_text_model, cwd=tiny_run)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("reused") == 7
    assert before == {path: path.stat().st_mtime_ns for path in run.glob("checkpoints/*/model.safetensors")}


def test_make_quickstart(root, tiny_run):
    """The run is there already, at its tiny size: make's own part, and reusing what is finished, remain."""
    if not installed_by_make(root):
        pytest.skip("this environment was not made by make; `make quickstart` would install into it")
    out = tiny_run / "runs" / "quickstart"
    text_model = json.loads((out / "manifest.json").read_text())["text_model"]
    done = make(root, "quickstart", f"OUT={out}", f"ARGS=--size tiny --text-model {text_model}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "report.html" in done.stdout
    assert "reused" in done.stdout + done.stderr


@pytest.fixture(scope="module")
def workplace(root, tiny_run) -> Path:
    """Stands for the checkout: a finished run in `runs/quickstart`, and the recipes."""
    link = tiny_run / "recipes"
    if not link.exists():
        link.symlink_to(root / "recipes")
    return tiny_run


def test_python_blocks_run(root, workplace):
    for block in blocks(root, "python"):
        done = subprocess.run(
            [sys.executable, "-c", block],
            cwd=workplace,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{block}\n{done.stderr}"
        # An untrained text model may answer with white space alone; that the block printed is what counts.
        assert done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in RUN if command not in CHEAP])
def test_commands_run(command, workplace):
    run_command(f"{command} {RUN[command]}", workplace)
