"""The quickstart: data, text model, warm-up, three stages, predictions, scores, report."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from semihv_hf.errors import SemiHVError
from semihv_hf.files import write_json
from semihv_hf.resources import resource_dir

from .state import RunState, code_fingerprint, fingerprint

ALIGNMENT_GROUPS = ["modality", "body_part", "plane|projection|stain", "sequence|window", "level", "lesion"]
STAGES = {
    "1_alignment": "stage1_alignment/smoke.yaml",
    "2_instruction": "stage2_instruction/smoke.yaml",
    "3_annealing": "stage3_annealing/smoke.yaml",
}
CONDITIONS = ("image", "blank", "shuffled")
RUN_ENTRIES = (
    *(
        "data",
        "checkpoints",
        "predictions",
        "state.json",
        "manifest.json",
        "scores.json",
        "scores_rows.jsonl",
        "scores_verdicts.jsonl",
    ),
    *("report.html", "report.json", "report.md"),
)


@dataclass(frozen=True)
class Size:
    """How much of everything: `full` is what the README promises, `tiny` is for tests of the path."""

    case_limit: int | None
    warmup_steps: int
    stage_steps: dict[str, int] | None
    question_limit: int | None
    disk_gib: float  # about twice what a run leaves: checkpoints of the running stage come on top


SIZES = {
    "full": Size(None, 250, None, None, disk_gib=5),
    "tiny": Size(3, 4, dict.fromkeys(STAGES, 2), 12, disk_gib=0.2),
}


class Quickstart:
    """
    One run of the quickstart in one folder; every step is reused when its inputs did not change.

    Args:
        out_dir (`Path`): the run folder.
        size (`str`): `full` or `tiny`.
        seed (`int`): seed of weights, batches and augmentation; the data and its questions do not depend on it.
        text_model (`str`, *optional*): folder or Hub id of a Llama-architecture model.
        judge_base_url (`str`, *optional*): OpenAI-compatible server that judges the JAMA-style answers.
        judge_model (`str`, *optional*): name of the judge.
    """

    def __init__(self, out_dir, size, seed, text_model, judge_base_url, judge_model):
        self.out = Path(out_dir)
        self.size = SIZES[size]
        self.size_name, self.seed = size, seed
        self.text_model_name = text_model or "smollm2-135m"
        self.judge = {"base_url": judge_base_url, "model": judge_model}
        self.out.mkdir(parents=True, exist_ok=True)
        self.state = RunState(self.out)
        package = Path(__file__).parents[1]
        self.code = {name: code_fingerprint(package / name) for name in ("data", "models", "training", "evaluation")}

    @property
    def data(self) -> Path:
        return self.out / "data"

    def checkpoint(self, stage: str) -> Path:
        return self.out / "checkpoints" / stage

    def run(self) -> dict:
        """Does what is not done yet and returns the manifest."""
        started = time.monotonic()
        key = fingerprint(self.code["data"], self.size.case_limit)
        self._step("Data", "data", key, self._build_data, self.data / "build_manifest.json")
        key = fingerprint(
            key, self.code["models"], self.code["training"], self.text_model_name, self.seed, vars(self.size)
        )
        key = fingerprint(key, Path(__file__).with_name("model.py"))
        self._step("Warm-up of the towers", "0_warmup", key, self._warm_up, self.checkpoint("0_warmup") / "stage.json")
        previous = "0_warmup"
        for stage, recipe in STAGES.items():
            path = resource_dir("recipes") / recipe
            key = fingerprint(key, path)
            work = partial(self._train, stage, previous, path)
            self._step(f"Stage {stage.replace('_', ', ')}", stage, key, work, self.checkpoint(stage) / "stage.json")
            previous = stage
        key = fingerprint(key, self.code["evaluation"])
        self._step("Answers", "predictions", key, self._predict, self.out / "predictions" / "jama.jsonl")
        self._step("Scores", "scores", fingerprint(key, self.judge), self._score, self.out / "scores.json")
        return self._finish(time.monotonic() - started)

    def _step(self, title: str, name: str, key: str, work: Callable[[], None], result: Path) -> None:
        from rich.console import Console

        console = Console(stderr=True, highlight=False)
        console.print(f"[bold]{title}[/bold]")
        done = self.state.run(name, key, work, result)
        seconds = self.state.steps[name]["seconds"]
        console.print(f"  done in {seconds:.0f} s" if done else f"  reused (took {seconds:.0f} s when it ran)")

    def _build_data(self) -> None:
        from semihv_hf.data.build import build

        shutil.rmtree(self.data, ignore_errors=True)
        build("open_packages", self.data, limit=self.size.case_limit)

    def _warm_up(self) -> None:
        from semihv_hf.models.text_model import prepare_text_model

        from .warm_start import warm_start

        shutil.rmtree(self.checkpoint("0_warmup"), ignore_errors=True)
        text_model = prepare_text_model(self.text_model_name)
        warm_start(
            text_model,
            self.data,
            self.checkpoint("0_warmup"),
            groups=ALIGNMENT_GROUPS,
            steps=self.size.warmup_steps,
            seed=self.seed,
        )

    def _train(self, stage: str, previous: str, recipe: Path) -> None:
        shutil.rmtree(self.checkpoint(stage), ignore_errors=True)
        command = [
            *(sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--quiet"),
            *("--config_file", str(resource_dir("recipes") / "accelerate" / "cpu.yaml")),
            # Without it the launcher leaves one thread to a process.
            *("--num_cpu_threads_per_process", str(os.cpu_count() or 1)),
            *(str(resource_dir("recipes") / "sft.py"), "--config", str(recipe)),
            *("--model", str(self.checkpoint(previous)), "--dataset", str(self.data)),
            *("--output_dir", str(self.checkpoint(stage)), "--seed", str(self.seed)),
        ]
        if self.size.stage_steps is not None:
            command += ["--max_steps", str(self.size.stage_steps[stage])]
        code = subprocess.run(command, check=False).returncode
        if code != 0:
            raise SemiHVError(
                f"Stage {stage} ended with exit code {code}; its own message stands above.",
                "After mending the cause, run the same command again: finished steps are reused.",
            )

    def _predict(self) -> None:
        from semihv_hf.evaluation.predict import predict

        model, folder = self.checkpoint("3_annealing"), self.out / "predictions"
        limit = self.size.question_limit
        for condition in CONDITIONS:
            predict(model, self.data, folder / f"{condition}.jsonl", condition=condition, seed=self.seed, limit=limit)
        predict(
            model,
            self.data,
            folder / "jama.jsonl",
            config="jama_style",
            max_new_tokens=80,
            seed=self.seed,
            limit=limit,
        )

    def _score(self) -> None:
        from semihv_hf.evaluation.score import score

        score(self.out / "predictions", self.data, self.out / "scores.json", judge=self.judge, seed=self.seed)

    def _finish(self, seconds: float) -> dict:
        from semihv_hf import __version__
        from semihv_hf.evaluation.report import write_report
        from semihv_hf.hub.cards import run_record, write_model_card

        peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        manifest = {
            "version": __version__,
            "size": self.size_name,
            "seed": self.seed,
            "text_model": self.text_model_name,
            "steps": self.state.steps,
            "seconds_this_run": round(seconds, 1),
            "seconds_all_steps": round(sum(step["seconds"] for step in self.state.steps.values()), 1),
            "peak_rss_gib": round(peak / (2**30 if sys.platform == "darwin" else 2**20), 2),
            "python": platform.python_version(),
            "checkpoint": "checkpoints/3_annealing",
        }
        write_report(self.out)
        for stage in STAGES:
            write_model_card(self.checkpoint(stage), run_record(self.out, stage, text_model=self.text_model_name))
        write_json(self.out / "manifest.json", manifest)
        return manifest


def check_disk(out_dir: Path, needed_gib: float) -> None:
    """Raises [`SemiHVError`] if the disk of the run folder has less than `needed_gib` left."""
    existing = next(path for path in (out_dir, *out_dir.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free / 2**30
    if free < needed_gib:
        raise SemiHVError(
            f"{existing} has {free:.1f} GiB left; a run needs {needed_gib:g} GiB.",
            "Free some space or choose another folder with --out.",
        )


def clear_run(folder: Path) -> None:
    """Removes what a run writes, and nothing else: the folder may be one that the user keeps other things in."""
    for name in RUN_ENTRIES:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def run_quickstart(
    out_dir: str | Path,
    *,
    size: str = "full",
    seed: int = 0,
    fresh: bool = False,
    text_model: str | None = None,
    judge_base_url: str | None = None,
    judge_model: str | None = None,
) -> dict:
    """
    From nothing to a trained small model, judged, with a report.

    Args:
        out_dir (`str` or `Path`): the run folder.
        size (`str`, *optional*, defaults to `"full"`): `"full"`, or `"tiny"` to see the path run.
        seed (`int`, *optional*, defaults to 0): seed of weights, batches and augmentation.
        fresh (`bool`, *optional*, defaults to `False`): whether finished steps are done again.
        text_model (`str`, *optional*): folder or Hub id of a Llama-architecture model.
        judge_base_url (`str`, *optional*): OpenAI-compatible server that judges the JAMA-style answers.
        judge_model (`str`, *optional*): name of the judge.

    Returns:
        `dict`: the manifest, also written as `manifest.json`, last of all files.

    Raises:
        `SemiHVError`: with one clear line, for everything that the user can mend.
    """
    from semihv_hf.evaluation.judge import judge_settings

    # A judge without a name must fail before the training, not after it.
    judge_settings({"base_url": judge_base_url, "model": judge_model})
    if size not in SIZES:
        raise SemiHVError(f"Unknown size {size!r}.", f"Choose one of {', '.join(SIZES)}.")
    out = Path(out_dir)
    check_disk(out, SIZES[size].disk_gib)
    if fresh:
        clear_run(out)
    return Quickstart(out, size, seed, text_model, judge_base_url, judge_model).run()
