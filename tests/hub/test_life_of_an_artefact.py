"""The life of an artefact over HTTP: built, published, streamed, trained on, published, loaded, scored, checked."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fresh_code import ANSWER, CARDS, METRIC, STREAM
from hub_server import client_environment

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from small_releases import write_pmc_vqa  # noqa: E402

pytestmark = pytest.mark.slow

DATASET, MODEL, METRIC_ID = "clinic/pmc-vqa-small", "clinic/pmc-cambrian-small", "clinic/multiple_choice"
START = f"""
import sys

sys.path.insert(0, {str(Path(__file__).parents[1] / "models")!r})
from pathlib import Path

from tiny_cambrian import small_towers_config

from semihv_hf import PMCCambrianForConditionalGeneration
from semihv_hf.models.assemble import build_processor
from semihv_hf.models.export import save_checkpoint

TOWERS = {{"siglip": {{"size": 32}}, "clip": {{"size": 32}}, "dino": {{"size": 28}}, "convnext": {{"size": 48}}}}
processor = build_processor(sys.argv[1], TOWERS, 4, chat_template="chatml")
config = small_towers_config()
config.image_token_id = processor.image_token_id
save_checkpoint(PMCCambrianForConditionalGeneration(config), processor, Path(sys.argv[2]))
"""
FETCH = """
import sys
from huggingface_hub import snapshot_download

snapshot_download(sys.argv[1], repo_type="dataset", revision=sys.argv[2], local_dir=sys.argv[3])
"""


def revision_of(done) -> str:
    assert done.returncode == 0, done.stderr
    return re.search(r"^Revision ([0-9a-f]{40})$", done.stdout, re.MULTILINE)[1]


def test_build_publish_stream_train_publish_load_score(hub, semihv, run_python, tmp_path, tiny_text_model, root):
    run = tmp_path / "run"
    mine = client_environment(hub.url, tmp_path / "home")
    fresh = client_environment(hub.url, tmp_path / "fresh")

    # Built from a release and published.
    release = write_pmc_vqa(tmp_path / "release", train=8, test=2)
    built = tmp_path / "built"
    done = semihv("build", "pmc_vqa", "--data-dir", release, "--out", built)
    assert done.returncode == 0, done.stderr
    data_revision = revision_of(semihv("publish", "dataset", built, "--repo-id", DATASET, **mine))
    assert "CC-BY-SA-4.0" in hub.repository("datasets", DATASET).resolve("main").message
    assert not hub.repository("datasets", DATASET).private

    # Streamed where nothing of ours is installed.
    config = next(path.name for path in sorted((built / "data").iterdir()) if path.name != "cases")
    streamed = run_python(STREAM, DATASET, config, data_revision, cwd=tmp_path, **fresh).stdout
    assert "ROWS 8" in streamed

    # Fetched, and a stage trained on it.
    run_python(FETCH, DATASET, data_revision, run / "data", **mine)
    run_python(START, tiny_text_model, run / "start")
    checkpoint = run / "checkpoints" / "2_instruction"
    recipe = root / "recipes" / "stage2_instruction" / "smoke.yaml"
    trained = subprocess.run(
        [
            *(sys.executable, str(root / "recipes" / "sft.py"), "--config", str(recipe)),
            *("--model", str(run / "start"), "--dataset", str(run / "data")),
            *("--dataset_config", config, "--output_dir", str(checkpoint)),
            *("--max_steps", "2", "--per_device_train_batch_size", "2"),
            *("--alignment_weight", "0"),  # the release states no facts to align with
        ],
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert trained.returncode == 0, trained.stdout + trained.stderr
    record = json.loads((checkpoint / "stage.json").read_text())
    assert record["log"]

    # What the start was trained on is not recorded, so the gate says no.
    done = semihv("publish", "model", checkpoint, "--repo-id", MODEL, **mine)
    assert done.returncode == 1 and "What 2_instruction was trained on is undetermined" in done.stderr
    assert ("models", MODEL) not in hub.store.repositories
    # Its weights were drawn at random.
    (checkpoint / "stage.json").write_text(json.dumps({**record, "sources_before": []}))

    # Published, and loaded at that revision where nothing of ours is installed.
    done = semihv("publish", "model", checkpoint, "--repo-id", MODEL, **mine)
    model_revision = revision_of(done)
    assert "pmc_vqa, 8 rows" in done.stdout  # those that it was trained on, by its record
    files = set(hub.repository("models", MODEL).resolve("main").files)
    assert {
        "code_manifest.json",
        "modeling_pmc_cambrian.py",
        "chat_template.jinja",
        "README.md",
        "stage.json",
    } <= files
    assert "NEW TOKENS 4" in run_python(ANSWER, MODEL, model_revision, cwd=tmp_path, **fresh).stdout

    # A metric, computed where nothing of ours is installed.
    metric = root / "metrics" / METRIC_ID.rpartition("/")[2]
    revision_of(semihv("publish", "metric", metric, "--repo-id", METRIC_ID, **mine))
    options = [["a cyst", "a mass", "a nodule"], ["oedema", "effusion", "fracture"]]
    asked = {"predictions": ["The answer is B.", "A"], "references": ["B", "C"], "options": options}
    scored = run_python(METRIC, METRIC_ID, json.dumps(asked), cwd=tmp_path, **fresh).stdout
    assert json.loads(scored.partition("RESULT ")[2])["accuracy"] == 0.5

    # Every card parses and is valid.
    cards = ("dataset", DATASET, "model", MODEL, "space", METRIC_ID)
    assert run_python(CARDS, *cards, cwd=tmp_path, **fresh).stdout.count("VALID") == 3
    assert MODEL in hub.read("models", MODEL, "README.md").decode()

    # A second time: nothing is sent, nothing is committed.
    hub.log.clear()
    again = [
        revision_of(semihv("publish", kind, folder, "--repo-id", repo_id, **mine))
        for kind, folder, repo_id in (
            ("dataset", built, DATASET),
            ("model", checkpoint, MODEL),
            ("metric", metric, METRIC_ID),
        )
    ]
    assert hub.log.uploaded_bytes == 0 and not hub.log.of("POST", "/commit/")
    assert again[:2] == [data_revision, model_revision]
