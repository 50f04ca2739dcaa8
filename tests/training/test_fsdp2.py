"""FSDP2 on two gloo ranks, images on one and text on the other: loss and gradients are those of the whole model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from two_processes import ROOT, torchrun


@pytest.mark.slow
def test_sharded_forward_and_backward_equal_the_whole_model(tmp_path, tiny_text_model):
    script, result = Path(__file__).with_name("fsdp2_ranks.py"), tmp_path / "result.json"
    file = ROOT / "recipes" / "accelerate" / "fsdp2.yaml"
    done = subprocess.run(
        [sys.executable, *torchrun(), str(script), str(tiny_text_model), str(file), str(result)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    found = json.loads(result.read_text())
    assert found["sharded"] and found["groups"] > 6 and found["unknown"] == []
    assert found["loss"] == pytest.approx(found["expected"], abs=1e-5)
    assert found["compared"] > 100 and found["worst"] < 1e-4
    # Gathered after a step and saved, it loads as the whole model after the same step.
    assert found["gathered"] == found["same"] > 100
    # What no tower reads has no gradient in the whole model either.
    assert all("clip" in name or "dino" in name for name in found["idle"])
