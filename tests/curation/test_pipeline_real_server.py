"""Real images, a real server process and a real local model: that every part really talks to the next."""

import json
import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec

import pyarrow.parquet
import pytest

NEEDED = ("accelerate", "fastapi", "llguidance", "openai", "pydantic", "uvicorn", "faiss")
missing = [name for name in NEEDED if find_spec(name) is None]
CASES = 6
ASKED = "[Request received]"  # what the server notes of each call


@pytest.fixture
def server(root, tiny_run, tmp_path):
    """`semihv serve`, which is transformers' own server, with the checkpoint of the tiny quickstart."""
    log = tmp_path / "server.log"
    checkpoint = tiny_run / "runs" / "quickstart" / "checkpoints" / "3_annealing"
    command = ["serve", str(checkpoint), "--name", "small", "--port", "0", "--device", "cpu"]
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "semihv_hf.cli", *command],
            env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        try:
            found = re.search(r"http://127\.0\.0\.1:\d+/v1", process.stdout.readline())
            assert found, log.read_text()
            yield found.group(0), log
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=120)


@pytest.mark.slow
@pytest.mark.skipif(bool(missing), reason=f"needs the packages {', '.join(missing)}")
def test_real_images_go_through_every_part_to_a_real_server(server, semihv, tmp_path):
    url, log = server
    cases, index, out = tmp_path / "cases", tmp_path / "index", tmp_path / "out"
    for command in (
        ("build", "open_packages", "--out", cases, "--limit", "1"),
        ("index", "--out", index, "--guidelines", "none", "--cases", cases, "--case-texts", "stated"),
    ):
        done = semihv(*command, timeout=1800)
        assert done.returncode == 0, done.stderr[-2000:]
    settings = {"base_url": url, "model": "small", "max_concurrency": 2, "timeout": 300, "max_tokens": 32}
    recipe = {
        "server": settings,
        "splits": ["train"],
        "limit": CASES,
        "block_rows": 3,
        "duplicates": {},
        # Of modality a rule tells most: the check asks the model all the same.
        "classify": {"names": ["modality"], "check_share": 1.0, "output": "headings", "longest": 96},
        "retrieve": {"index": str(index), "k": {"cases": 2}},
        "generate": {"output": "headings", "longest": 96},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    where = ("--config", tmp_path / "recipe.yaml", "--data", cases, "--out", out)
    looked = semihv("curate", *where, "--sample", "3", timeout=900)
    assert looked.returncode == 0 and (out / "preview.html").read_text().count("<article") == 3, looked.stderr[-2000:]
    assert ASKED not in log.read_text()
    report = curated(semihv, where, out)
    # What untrained weights say fits no shape; each ends as what it is, and none as a fault of the way there.
    assert {kind for _, kind, _ in report["failures"]} <= {"schema", "truncated", "empty"}, report["failures"]
    asked = log.read_text().count(ASKED)
    assert asked >= CASES

    # The same with schemas, which the server keeps: whatever the weights, each answer is read unless it is cut off.
    shaped = tmp_path / "shaped"
    recipe["server"]["max_tokens"] = 64
    recipe["classify"]["output"] = recipe["generate"]["output"] = "schema"
    (tmp_path / "shaped.yaml").write_text(json.dumps(recipe))
    where = ("--config", tmp_path / "shaped.yaml", "--data", cases, "--out", shaped)
    report = curated(semihv, where, shaped)
    assert {kind for _, kind, _ in report["failures"]} <= {"truncated"}, report["failures"]
    assert sum(number for name, _, by, number in report["labels"] if (name, by) == ("modality", "model")) == CASES
    assert "unreadable" not in {row["rule"] for row in rows(shaped / "rejected.parquet")}
    # No case was asked twice, neither in other words nor again: one label and one text each.
    assert log.read_text().count(ASKED) == asked + 2 * CASES


def curated(semihv, where, out) -> dict:
    """Runs a curation; gives its report, after a look whether every case has an end."""
    done = semihv("curate", *where, timeout=3000)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((out / "curate_report.json").read_text())
    assert report["stages"] == ["duplicates", "classify", "retrieve", "generate"]
    assert report["listed"] == CASES and sum(report["cases"].values()) == CASES
    told = {row["case_id"] for name in ("failures", "rejected", "skipped") for row in rows(out / f"{name}.parquet")}
    told |= {row["case_id"] for path in out.glob("data/[ai]*/*.parquet") for row in rows(path)}
    assert len(told) == CASES
    return report


def rows(path) -> list[dict]:
    columns = [name for name in ("case_id", "rule") if name in pyarrow.parquet.read_schema(path).names]
    return pyarrow.parquet.read_table(path, columns=columns).to_pylist()
