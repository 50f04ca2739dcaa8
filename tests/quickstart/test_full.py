"""The quickstart as a newcomer runs it: full size, real language model. About a quarter of an hour."""

import json

import pytest


@pytest.mark.slow
def test_full_quickstart_runs_and_learns(semihv, tmp_path):
    done = semihv("quickstart", "--out", tmp_path / "run", timeout=3000)
    assert done.returncode == 0, done.stderr[-3000:]
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    verdict = json.loads((tmp_path / "run" / "scores.json").read_text())["verdict"]
    print(json.dumps({"seconds": manifest["seconds_all_steps"], "verdict": verdict}))
    assert manifest["peak_rss_gib"] < 8
    assert verdict["n"] >= 200 and verdict["n_failed"] == 0
    assert set(verdict["baselines"]) == {"majority", "blank", "shuffled"}
    for name, baseline in verdict["baselines"].items():
        assert baseline["passes"], f"{name}: {baseline}"
