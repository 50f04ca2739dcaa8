"""recipes/sft.py killed in its middle and started again with the same command, as a scheduler does."""

import os
import signal
import subprocess
import time

import pytest
from two_processes import command, launch, losses, surroundings, torchrun, write_inputs

from semihv_hf.training.checkpoints import newest_complete

pytestmark = pytest.mark.slow

STEPS = ("--max_steps", 8, "--save_strategy", "steps", "--save_steps", 3, "--lr_scheduler_type", "cosine")
STREAM = (
    *("--streaming", "true", "--packing", "true", "--pack_length", 300, "--stream_buffer", 8),
    *("--per_device_train_batch_size", 1, "--dataloader_num_workers", 1),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_text_model, picture):
    folder = tmp_path_factory.mktemp("script")
    write_inputs(folder, tiny_text_model, picture)
    return folder


def kill_after(step: int, folder, name, launcher, *options, **environment) -> None:
    """Starts the script and kills all its processes as soon as the checkpoint of a step is there."""
    with open(folder / f"{name}.txt", "w") as printed:
        process = subprocess.Popen(
            command(folder, name, launcher, *options),
            env=surroundings(**environment),
            cwd=folder,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            if (folder / name / f"checkpoint-{step}").exists():
                break
            time.sleep(0.005)
        alive = process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
    assert alive, (folder / f"{name}.txt").read_text()


CASES = {
    "rows of like length": ([], ("--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 2)),
    "a packed stream on two processes": (
        torchrun(),
        STREAM,
    ),
}


@pytest.mark.parametrize("case", list(CASES))
def test_killed_and_started_again_ends_with_the_same_bits(case, folder):
    launcher, options = CASES[case]
    name = case.split()[1]
    whole, reference = launch(folder, f"{name}-whole", launcher, *STEPS, *options)
    kill_after(3, folder, f"{name}-killed", launcher, *STEPS, *options)
    out = folder / f"{name}-killed"
    assert not (out / "stage.json").exists() and newest_complete(out).path.name in ("checkpoint-3", "checkpoint-6")
    record, _ = launch(folder, out.name, launcher, *STEPS, *options)
    assert losses(record) == losses(whole)
    assert (out / "model.safetensors").read_bytes() == (reference / "model.safetensors").read_bytes()
