"""Runs of `checkpoint_run.py` one after the other, each in a process that a test may kill at any moment."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


class RunServer:
    """Imports the libraries once, then forks a process for each run."""

    running: int | None = None

    def __init__(self):
        path = os.pathsep.join([str(HERE.parents[1]), str(HERE.parent / "models")])
        self.process = subprocess.Popen(
            [sys.executable, HERE / "checkpoint_run.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )

    def start(self, out: Path, **settings) -> int:
        """Begins a run; returns its process."""
        request = {"out": str(out), "output": str(output_of(out)), **settings}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        self.running = int(self._answer("pid"))
        return self.running

    def wait(self) -> int:
        """Exit code of the run; negative if a signal ended it."""
        code = int(self._answer("exit"))
        self.running = None
        return code

    def run(self, out: Path, **settings) -> str:
        """A run that must end well; returns what it printed."""
        before = printed(out)
        self.start(out, **settings)
        code = self.wait()
        text = printed(out)[len(before) :]
        assert code == 0, text
        return text

    def fails(self, out: Path, code: int = 1, **settings) -> str:
        """A run that must end with this exit code; returns what it printed."""
        before = printed(out)
        self.start(out, **settings)
        assert self.wait() == code, printed(out)
        return printed(out)[len(before) :]

    def kill_when(self, out: Path, word: str, delay: float, *, saving: bool = False, **settings) -> bool:
        """Kills a run `delay` seconds after it printed `word` (and began to save); whether it was still alive."""
        before = len(printed(out))
        process = self.start(out, **settings)
        deadline = time.monotonic() + 300
        while alive(process) and time.monotonic() < deadline:
            if word in printed(out)[before:] and (not saving or (out / "_saving").exists()):
                break
            time.sleep(0.002)
        time.sleep(delay)
        if alive(process):
            os.kill(process, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    def close(self) -> None:
        if self.running is not None:  # a test failed before it waited
            os.killpg(self.running, signal.SIGKILL)
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def _answer(self, word: str) -> str:
        for line in self.process.stdout:  # DeepSpeed prints there too
            if line.startswith(f"{word} "):
                return line.split()[1]
        raise AssertionError("the run server ended")


def output_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.txt")


def printed(out: Path) -> str:
    file = output_of(out)
    return file.read_text() if file.exists() else ""


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def moments(count: int, longest: float, seed: int) -> list[float]:
    """Random delays in seconds, the same for the same seed."""
    draw = random.Random(seed)
    return [draw.uniform(0, longest) for _ in range(count)]
