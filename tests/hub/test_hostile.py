"""Hostile inputs, each tried in a watched process: none runs code, writes outside its folder, or hangs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Inputs that each door has at least.
LEAST = {"upload": 170, "load": 120, "build": 110, "texts": 130}
LIMIT = 1500  # seconds for all inputs of a door, next to the limit of each


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tiny_text_model) -> Path:
    """A good checkpoint, to be spoiled."""
    from semihv_hf.models.export import save_checkpoint
    from semihv_hf.quickstart.model import build_small_model

    model, processor = build_small_model(tiny_text_model, seed=0)
    return save_checkpoint(model, processor, tmp_path_factory.mktemp("good") / "checkpoint")


@pytest.fixture(scope="module", params=LEAST)
def tried(request, tmp_path_factory, checkpoint) -> tuple[str, list[dict], Path]:
    """The outcomes of a door's inputs, tried in a process of its own."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "outside").mkdir()
    (folder / "outside" / "secret.txt").write_text("a secret\n")
    environment = os.environ | {
        "HOSTILE_CANARY": str(folder / "canary"),
        "HOSTILE_CHECKPOINT": str(checkpoint),
        "HOME": str(folder / "home"),
        "HF_HOME": str(folder / "home" / "hf"),
        "SEMIHV_CACHE": str(folder / "home" / "semihv"),
        "TMPDIR": str(folder / "temporary"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    for name in ("home", "temporary"):
        (folder / name).mkdir()
    command = [sys.executable, str(HERE / "hostile_worker.py"), request.param, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in (folder / "outcomes.jsonl").read_text().splitlines()]
    return request.param, rows, folder


def test_nothing_runs_leaves_its_folder_or_hangs(tried):
    door, rows, folder = tried
    assert len(rows) >= LEAST[door]
    wrong = [row for row in rows if row["outcome"] not in ("refused", "accepted") or row["noted"]]
    assert wrong == []
    assert not (folder / "canary").exists()
    assert (folder / "outside" / "secret.txt").read_text() == "a secret\n"
    assert [path.name for path in (folder / "outside").iterdir()] == ["secret.txt"]


def test_what_must_be_refused_is_refused(tried):
    _, rows, _ = tried
    assert [row for row in rows if row["expect"] == "refused" and row["outcome"] != "refused"] == []


def test_there_are_at_least_two_hundred():
    assert sum(LEAST.values()) >= 200
