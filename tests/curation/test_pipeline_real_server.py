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

NEEDED = ("accelerate", "fastapi", "openai", "pydantic", "uvicorn", "faiss")
missing = [name for name in NEEDED if find_spec(name) is None]
CASES = 50


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
def test_fifty_cases_of_real_images_go_through_a_real_server(server, semihv, tmp_path):
    url, log = server
    built = semihv("build", "open_packages", "--out", tmp_path / "cases", "--limit", "12", timeout=1800)
    assert built.returncode == 0, built.stderr[-2000:]
    recipe = tmp_path / "recipe.yaml"
    settings = {"base_url": url, "model": "small", "max_concurrency": 2, "timeout": 300, "max_tokens": 48}
    options = {"limit": CASES, "block_rows": 10, "duplicates": {}, "classify": {"longest": 96}}
    options["generate"] = {"longest": 96, "most_images": 2}
    recipe.write_text(json.dumps({"server": settings, **options}))
    where = ("--config", recipe, "--data", tmp_path / "cases", "--out", tmp_path / "out")
    looked = semihv("curate", *where, "--sample", "3", timeout=900)
    assert looked.returncode == 0 and "preview.html" in looked.stdout, looked.stderr[-2000:]
    done = semihv("curate", *where, timeout=3000)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    report = json.loads((tmp_path / "out" / "curate_report.json").read_text())
    assert report["listed"] == CASES and sum(report["cases"].values()) == CASES
    ended = {kind for _, kind, _ in report["failures"]}
    assert ended <= {"schema", "truncated", "empty", "image"}, report["failures"]
    cases = pyarrow.parquet.read_table(tmp_path / "out" / "data" / "cases").num_rows
    assert cases + sum(report["left_out"].values()) == CASES
    assert log.read_text().count("POST /v1/chat/completions") >= CASES // 2
