"""Runs of recipes/sft.py and recipes/dpo.py as programs: the libraries are imported once, each run is a process."""

import atexit
import importlib
import json
import os
import runpy
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Finished:
    """What a run left: exit code, and all that it printed."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of a refused run; fails if the run went on, gave a traceback or said more."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert self.code == 1 and len(lines) == 1, f"exit code {self.code}\n{self.out}\n{self.err}"
        assert "Traceback" not in self.err and "'loss':" not in self.out, f"{self.out}\n{self.err}"
        return lines[0]


class ScriptServer:
    """
    Imports the libraries once, then forks a process for each run.

    Args:
        folder (`Path`): where the output of runs is kept.
        environment: of all runs; Hugging Face libraries read theirs at import.
    """

    def __init__(self, folder: Path, **environment):
        self.folder, self.count = folder, 0
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | environment,
        )

    def run(self, *arguments, script: str = "sft.py", check: bool = True, **environment) -> Finished:
        """Runs a script of `recipes/` in the server's folder; unless `check` is false it must end well."""
        self.count += 1
        files = [self.folder / f"{self.count}.{kind}" for kind in ("out", "err")]
        request = {"script": str(ROOT / "recipes" / script), "arguments": list(map(str, arguments))}
        request |= {"environment": environment, "files": list(map(str, files)), "cwd": str(self.folder)}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:  # libraries print there, too
            if line.startswith("exit "):
                done = Finished(int(line.split()[1]), *(file.read_text() for file in files))
                assert not check or done.code == 0, f"exit code {done.code}\n{done.out}\n{done.err}"
                return done
        raise AssertionError("the script server ended")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)


def child(request: dict) -> None:
    """One run, its output in files, ended as the interpreter would end it."""
    for number, file in enumerate(request["files"], 1):
        with open(file, "w") as output:
            os.dup2(output.fileno(), number)
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    sys.argv = [request["script"], *request["arguments"]]
    code = 1
    try:
        runpy.run_path(request["script"], run_name="__main__")
        code = 0
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()  # trackers write their last lines here
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    for module in ("torch", "transformers.trainer", "trl.trainer.sft_trainer", "trl.trainer.dpo_trainer", "peft"):
        importlib.import_module(module)
    for module in ("datasets", "semihv_hf.training.stage", "semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian"):
        importlib.import_module(module)
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            child(json.loads(line))
        _, status = os.waitpid(process, 0)
        print(f"exit {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    serve()
