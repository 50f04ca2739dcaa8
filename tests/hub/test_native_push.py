"""The libraries' own ways to the Hub: `push_to_hub` of a model, a processor, a trainer and a dataset."""

import os
import sys
from pathlib import Path

import pytest
from fresh_code import ANSWER, WITHOUT_THE_PACKAGE
from hub_server import client_environment

from semihv_hf.hub.card_rules import check_card

pytestmark = pytest.mark.slow

CODE = {
    "configuration_pmc_cambrian.py", "modeling_pmc_cambrian.py", "processing_pmc_cambrian.py", "sva_pmc_cambrian.py",
    "image_processing_pil_pmc_cambrian.py", "image_processing_pmc_cambrian.py", "towers_pmc_cambrian.py",
    "saving_pmc_cambrian.py", "code_manifest.json",
}  # fmt: skip
PREPARE = f"""
import sys

sys.path.insert(0, {str(Path(__file__).parents[1] / "models")!r})
import torch
from tiny_cambrian import small_towers_config

from semihv_hf import PMCCambrianForConditionalGeneration
from semihv_hf.models.assemble import build_processor

TOWERS = {{"siglip": {{"size": 32}}, "clip": {{"size": 32}}, "dino": {{"size": 28}}, "convnext": {{"size": 48}}}}
processor = build_processor(sys.argv[1], TOWERS, 4, chat_template="chatml")
config = small_towers_config()
config.image_token_id = processor.image_token_id
model = PMCCambrianForConditionalGeneration(config)
"""
PUSH = (
    PREPARE
    + """
model.push_to_hub("alice/native")
processor.push_to_hub("alice/native")
model.push_to_hub("alice/native", revision="draft", private=True)
"""
)
# A checkpoint with the record and the card of its run is loaded and pushed, as it is and after its weights changed.
PUSH_RUN = (
    PREPARE
    + """
from pathlib import Path
from semihv_hf.models.export import save_checkpoint

folder = save_checkpoint(model, processor, Path(sys.argv[2]))
(folder / "stage.json").write_text("{}")
(folder / "README.md").write_text("---\\nlicense: mit\\n---\\n# The run's\\n`your-name/pmc-cambrian-x`")
model = PMCCambrianForConditionalGeneration.from_pretrained(folder)
processor.push_to_hub("alice/run")
model.push_to_hub("alice/run")
model.lm_head.weight.data += 1
model.push_to_hub("alice/changed")
"""
)
TRAIN = (
    PREPARE
    + """
from transformers import Trainer, TrainingArguments

class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        tokens = torch.arange(4) + 10 * index
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens}

settings = TrainingArguments(
    sys.argv[2], max_steps=1, per_device_train_batch_size=1, report_to="none", use_cpu=True, save_steps=1,
    hub_model_id="alice/trained", push_to_hub=True, remove_unused_columns=False)
trainer = Trainer(model=model, args=settings, train_dataset=Rows(), processing_class=processor)
trainer.train()
trainer.push_to_hub()
"""
)
PUSH_ROWS = """
import sys
from datasets import Dataset, Image, load_dataset
from PIL import Image as Pictures

rows = {"image": [Pictures.new("RGB", (8, 6), (n, n, n)) for n in range(4)], "text": [f"row {n}" for n in range(4)]}
data = Dataset.from_dict(rows).cast_column("image", Image())
data.push_to_hub("alice/rows", "first")
data.select([0]).push_to_hub("alice/rows", "second", private=True)
for config, count in (("first", 4), ("second", 1)):
    again = load_dataset("alice/rows", config, split="train", streaming=True)
    assert [row["text"] for row in again] == rows["text"][:count]
    assert next(iter(again))["image"].size == (8, 6)
"""


@pytest.fixture
def run(run_python, hub, tmp_path):
    """Runs a program against the Hub, with caches of its own."""

    def start(code, *arguments, home="home"):
        return run_python(code, *arguments, cwd=tmp_path, **client_environment(hub.url, tmp_path / home))

    return start


def test_model_and_processor_carry_code_card_and_template(run, hub, tiny_text_model, tmp_path, semihv, client):
    run(PUSH, tiny_text_model)
    mine = client_environment(hub.url, tmp_path / "verify")
    repository = hub.repository("models", "alice/native")
    commit = repository.resolve("main")
    assert CODE | {"README.md", "chat_template.jinja", "config.json", "model.safetensors"} <= set(commit.files)
    assert {"refs/heads/main", "refs/heads/draft"} <= set(repository.refs)
    done = run(ANSWER, "alice/native", commit.oid, home="fresh")
    assert "NEW TOKENS 4" in done.stdout
    (tmp_path / "README.md").write_bytes(hub.read("models", "alice/native", "README.md"))
    fields = check_card(tmp_path / "README.md", "model")
    assert fields["license"] == "unknown" and "model-index" not in fields
    assert "alice/native" in (tmp_path / "README.md").read_text()

    for branch in ("main", "draft"):
        pushed = repository.resolve(branch).oid
        checked = semihv("verify", "alice/native", "--revision", pushed, "--trust-manifest-of", "semihv-hf", **mine)
        assert checked.returncode == 0, checked.stdout + checked.stderr
    # Somebody with the right to write alters one byte of the code, which then loads as ever.
    api, name = client(hub), "sva_pmc_cambrian.py"
    code = hub.read("models", "alice/native", name)
    changed = api.upload_file(
        path_or_fileobj=code[:-1] + b" ", path_in_repo=name, repo_id="alice/native", token="writer"
    )
    checked = semihv("verify", "alice/native", "--revision", changed.oid, **mine)
    assert checked.returncode == 1
    (line,) = [line for line in checked.stdout.splitlines() if line.startswith("wrong")]
    assert name in line and "differs from what code_manifest.json says" in line


def test_the_card_of_a_run_goes_along_with_its_weights_alone(run, hub, tiny_text_model, tmp_path):
    run(PUSH_RUN, tiny_text_model, tmp_path / "1_alignment")
    card = hub.read("models", "alice/run", "README.md").decode()
    assert "# The run's" in card and "`alice/run`" in card
    assert str(tmp_path).encode() not in hub.read("models", "alice/run", "config.json")
    assert "# The run's" not in hub.read("models", "alice/changed", "README.md").decode()


def test_a_trainer_carries_code_card_and_template(run, hub, tiny_text_model, tmp_path, semihv):
    run(TRAIN, tiny_text_model, tmp_path / "trained")
    commit = hub.repository("models", "alice/trained").resolve("main")
    assert CODE | {"README.md", "chat_template.jinja", "model.safetensors"} <= set(commit.files)
    assert not any(name.startswith("checkpoint-") for name in commit.files)
    done = run(ANSWER, "alice/trained", commit.oid, home="fresh")
    assert "NEW TOKENS 4" in done.stdout
    # The trainer's own settings are a pickle, which nothing loads; all else passes.
    mine = client_environment(hub.url, tmp_path / "verify")
    checked = semihv("verify", "alice/trained", "--revision", commit.oid, **mine)
    (line,) = [line for line in checked.stdout.splitlines() if line.startswith("wrong")]
    assert "training_args.bin" in line


def test_a_dataset_with_two_configs(run, hub):
    run(WITHOUT_THE_PACKAGE + PUSH_ROWS)
    files = hub.repository("datasets", "alice/rows").resolve("main").files
    assert {"first/train-00000-of-00001.parquet", "second/train-00000-of-00001.parquet", "README.md"} <= set(files)
    assert b"config_name: second" in hub.read("datasets", "alice/rows", "README.md")


def test_the_hf_command_uploads_and_downloads(run_python, hub, tmp_path):
    import subprocess

    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "weights.safetensors").write_bytes(os.urandom(20_000))
    environment = {**os.environ, **client_environment(hub.url, tmp_path / "home")}
    hf = str(Path(sys.executable).parent / "hf")
    for arguments in (("upload", "alice/plain", "up"), ("download", "alice/plain", "--local-dir", "down")):
        done = subprocess.run([hf, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    names = [tmp_path / side / "weights.safetensors" for side in ("up", "down")]
    assert names[0].read_bytes() == names[1].read_bytes()
