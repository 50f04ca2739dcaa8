"""Being asked to leave: handlers, exit code, the file for job scripts, one process and two."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from run_server import RunServer, printed
from transformers import TrainerControl, TrainerState

from semihv_hf.training.checkpoints import newest_complete
from semihv_hf.training.preemption import PREEMPTED_EXIT_CODE, PREEMPTED_FILE, PreemptionCallback

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def server():
    server = RunServer()
    yield server
    server.close()


class Arguments:
    device = "cpu"


def test_handlers_stand_only_while_training_runs():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)
    callback, state, control = PreemptionCallback(), TrainerState(), TrainerControl()
    callback.on_train_begin(Arguments(), state, control)
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert callback.received is signal.SIGUSR1
        assert not control.should_training_stop, "a step is finished first"
        callback.on_step_end(Arguments(), state, control)
        assert control.should_save and control.should_training_stop and callback.stopped
    finally:
        callback.on_train_end(Arguments(), state, control)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)) == before


def test_without_a_signal_nothing_stops():
    callback, control = PreemptionCallback(), TrainerControl()
    callback.on_train_begin(Arguments(), TrainerState(), control)
    callback.on_step_end(Arguments(), TrainerState(), control)
    callback.on_train_end(Arguments(), TrainerState(), control)
    assert not control.should_save and not control.should_training_stop and not callback.stopped


@pytest.mark.slow
def test_a_process_does_not_wait_for_workers_that_are_left(run_python):
    """An error that somebody holds on to keeps the workers of its frames alive until the end."""
    code = """
from torch.utils.data import DataLoader
from semihv_hf.training.preemption import PreemptionCallback
loader = DataLoader(range(8), num_workers=1)
PreemptionCallback().shield(loader)
batches = iter(loader)
print(next(batches))
raise SystemExit(3)
"""
    done = run_python(code, check=False)  # which gives up after ten minutes
    assert done.returncode == 3 and "Traceback" not in done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_ends_with_the_documented_code(tmp_path, server, number):
    out = tmp_path / "run"
    process = server.start(out, model="llava", steps=500, save_steps=400, pause=0.02, workers=2)
    deadline = time.monotonic() + 300
    while "step 3\n" not in printed(out) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process, number)  # its data workers too, as a scheduler does
    os.kill(process, number)  # asked twice
    assert server.wait() == PREEMPTED_EXIT_CODE
    note = json.loads((out / PREEMPTED_FILE).read_text())
    found = newest_complete(out)
    assert found == (out / note["checkpoint"], [])
    assert 3 <= note["step"] < 400
    assert f"Asked to leave ({number.name}): step {note['step']} is saved in" in printed(out)
    assert "done" not in printed(out)


@pytest.mark.slow
def test_two_ranks_leave_after_the_same_step(tmp_path):
    """The signal reaches one rank only; both must stop, and go on together."""
    out = tmp_path / "ranks"
    settings = {"model": "llava", "out": str(out), "steps": 12, "save_steps": 4, "rows": 12, "accumulation": 1}

    def launch(**changes):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), str(HERE.parent / "models")])
        return subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
            + [str(HERE / "checkpoint_run.py"), json.dumps({**settings, **changes})],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    whole, _ = launch(out=str(tmp_path / "whole")).communicate(timeout=600)
    assert "done" in whole, whole
    first = launch(pause=0.3)
    lines = []
    for line in first.stdout:
        lines.append(line)
        if "step 3" in line:
            break
    children = subprocess.run(["pgrep", "-P", str(first.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(children[-1]), signal.SIGTERM)
    rest, _ = first.communicate(timeout=600)
    text = "".join(lines) + rest
    assert first.returncode != 0
    step = json.loads((out / PREEMPTED_FILE).read_text())["step"]
    assert re.search(rf"Asked to leave \(.*\): step {step} is saved in", text), text
    assert newest_complete(out).path.name == f"checkpoint-{step}"
    done, _ = launch().communicate(timeout=600)
    assert f"Resuming from {out}/checkpoint-{step}, step {step}." in done, done
    assert not (out / PREEMPTED_FILE).exists()
    assert (out / "final.safetensors").read_bytes() == (tmp_path / "whole" / "final.safetensors").read_bytes()
