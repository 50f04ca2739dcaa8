"""Checkpoints of any transformers trainer that a killed run resumes exactly: a class to put before the trainer."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError

from semihv_hf.errors import SemiHVError, first_line
from semihv_hf.files import finite_numbers, write_json

from .checkpoint_window import WindowMixin
from .checkpoints import STAGING, clean_staging, newest_complete, publish, rotate, seal, verify
from .preemption import PREEMPTED_FILE, Preempted, PreemptionCallback, any_rank
from .random_state import put_random_state, take_random_state
from .resume_facts import data_facts, difference, model_facts
from .strict_loading import load_weights, parameter_digests

# What a full disk or a broken file system looks like: plain, from torch's zip writer, from safetensors.
_WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)


class CheckpointMixin(WindowMixin):
    """
    Put it before a trainer: `class StageTrainer(CheckpointMixin, SFTTrainer)`. It takes no arguments of its own.

    A checkpoint is staged, sealed by a manifest and renamed (checkpoints.py); training resumes from the newest one
    that is complete, with every parameter, optimizer, schedule, random state, place in the data and sums between two
    log lines. All ranks decide together. What is promised stands in docs/checkpoints.md.

    Callbacks that have `state_dict()` and `load_state_dict(state)` are saved and resumed with it.
    """

    _staging: Path | None = None
    _failure: BaseException | None = None
    _push_is_due = False
    _facts: dict[str, Any] | None = None

    # ---- Training ----

    def train(self, resume_from_checkpoint: str | bool | None = None, *args, **kwargs):
        """
        Trains, from a checkpoint or from the beginning.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                `"auto"` or `True`: from the newest complete checkpoint in `output_dir`, from the beginning if there is
                none. A folder: from that checkpoint. `"none"`, `None` or `False`: from the beginning.

        Returns:
            `TrainOutput`

        Raises:
            `SemiHVError`: before the first step, if the checkpoint is torn or belongs to another architecture or
                recipe, or if a run from the beginning would mix its checkpoints with those of another run.
            [`Preempted`]: after a signal, when the checkpoint is written.
        """
        self._refuse_scattered_weights()
        self._facts = self.run_facts()
        checkpoint = self._agree_on_checkpoint(resume_from_checkpoint)
        preemption = self._preemption()
        try:
            output = super().train(checkpoint, *args, **kwargs)
        finally:
            if preemption is not None:
                preemption.restore_handlers()
        if preemption is not None and preemption.stopped:
            step, run = self.state.global_step, Path(self.args.output_dir)
            folder = run / f"checkpoint-{step}"
            if self.args.should_save:
                write_json(run / PREEMPTED_FILE, {"checkpoint": folder.name, "step": step})
            self._say(f"Asked to leave ({preemption.signal_name}): step {step} is saved in {folder}.")
            # A launcher ends the other processes as soon as one of them has ended.
            self.accelerator.wait_for_everyone()
            raise Preempted(folder, step)
        return output

    def run_facts(self) -> dict[str, Any]:
        """What a checkpoint's run and this one must have in common; subclasses may add facts of their recipe."""
        args = self.args
        return {
            **model_facts(self.accelerator.unwrap_model(self.model)),
            "strategy": self._strategy(),
            "world_size": args.world_size,
            "global_batch": self._train_batch_size * args.gradient_accumulation_steps * args.world_size,
            "data": data_facts(self.train_dataset),
            "seed": [args.seed, args.data_seed],
        }

    def save_consolidated(self, folder: str | Path | None = None) -> None:
        """
        Writes the whole model as safetensors, gathered from ZeRO-3 or FSDP if it is sharded. All ranks must call it.

        Args:
            folder (`str` or `Path`, *optional*): where to; `output_dir` if not given.

        Raises:
            `SemiHVError`: if no whole weights were written.
        """
        folder = Path(folder or self.args.output_dir)
        self.save_model(str(folder), _internal_call=True)
        if not self.args.should_save:
            return
        names = {path.name for path in folder.glob("*.safetensors*")}
        if not names & {"model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors"}:
            raise SemiHVError(f"No whole weights were written to {folder}.", "See docs/checkpoints.md, sharded runs.")
        # A pickle of this machine's settings, of no use to those who load the model.
        (folder / "training_args.bin").unlink(missing_ok=True)

    def get_eval_dataloader(self, *args, **kwargs):
        loader = super().get_eval_dataloader(*args, **kwargs)
        if (preemption := self._preemption()) is not None:
            preemption.shield(loader)
        return loader

    def _run_epoch(self, *args, **kwargs):
        if (preemption := self._preemption()) is not None:
            preemption.shield(kwargs["train_dataloader"])
        checkpoint = kwargs["resume_from_checkpoint"]
        resumes = checkpoint is not None and kwargs["epoch"] == kwargs["epochs_trained"]
        window = self._load_window(checkpoint) if resumes else None
        if self.state.global_step >= self.state.max_steps:
            # Killed after the last checkpoint: transformers would take one step more, and only then stop.
            self.control.should_training_stop = True
            return None
        if resumes and kwargs["steps_trained_in_current_epoch"] == 0:
            self._load_rng_state(checkpoint)
        elif window is not None:
            # Samplers and data workers drew their seeds from the state at the beginning of this epoch. That of the
            # checkpoint's step follows when the rows before it are skipped (`Trainer._load_rng_state`).
            put_random_state(window["epoch_random_state"])
        self._epoch_random_state = take_random_state()
        return super()._run_epoch(*args, **kwargs)

    def _finalize_training(self, *args, **kwargs):
        # With a limit of one transformers deletes the newest checkpoint at the end if it is not the best.
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            return super()._finalize_training(*args, **kwargs)
        finally:
            self.args.save_total_limit = limit

    def _determine_best_metric(self, *args, **kwargs) -> bool:
        # `save_strategy="best"` saves if this is true; a process that was asked to leave saves in any case.
        best = super()._determine_best_metric(*args, **kwargs)
        return best or self._is_leaving()

    # ---- Saving ----

    def _save_checkpoint(self, model, trial):
        run = Path(super()._get_output_dir(trial))
        staged = run / STAGING / f"checkpoint-{self.state.global_step}"
        self._staging, self._failure, self._push_is_due = run / STAGING, None, False
        try:
            with self._held():
                super()._save_checkpoint(model, trial)
            with self._held():
                self._save_window(staged)
            self._agree_that_written(run, staged)
            self._point_to_best(run, staged.name)
            if self.args.should_save:
                with self._held():
                    self._complete(run, staged)
            self._agree_that_written(run, staged)
        finally:
            self._staging = None
        if self._push_is_due:
            self._push_from_checkpoint(str(run / staged.name))

    def _complete(self, run: Path, staged: Path) -> None:
        # As transformers does it, but JSON: a diverged run's NaN is null.
        write_json(staged / "trainer_state.json", finite_numbers(dataclasses.asdict(self.state)))
        seal(
            staged,
            step=self.state.global_step,
            resumable=not self.args.save_only_model,
            run=self._facts,
            parameters=parameter_digests(self._bare_model()) if self._strategy() == "replicated" else None,
        )
        publish(staged, run)
        rotate(run, self.args.save_total_limit, self.state.best_model_checkpoint)
        clean_staging(run)

    def _agree_that_written(self, run: Path, staged: Path) -> None:
        """Raises on every rank if one of them could not write."""
        if not any_rank(self._failure is not None, self.args.device):
            return
        if self.args.should_save:
            shutil.rmtree(self._staging, ignore_errors=True)  # the disk may be full: make room
        last = newest_complete(run, hashes=False).path
        raise SemiHVError(
            f"{staged.name} could not be written to {run}: "
            f"{'another process failed' if self._failure is None else first_line(self._failure)}.",
            f"Make room or mend the disk, then start again with `resume: auto`, from {last.name}."
            if last
            else "Make room or mend the disk, then start again; there is no earlier checkpoint.",
        ) from self._failure

    def _point_to_best(self, run: Path, current: str) -> None:
        """transformers looked for the best checkpoint beside the staged one; it lies beside the final one."""
        best = None if self.state.best_global_step is None else f"checkpoint-{self.state.best_global_step}"
        if best is not None and (best == current or (run / best).is_dir()):
            self.state.best_model_checkpoint = str(run / best)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """While a checkpoint is written, keeps a write error until all ranks hear of it: none may wait for another."""
        try:
            yield
        except _WRITE_ERRORS as error:
            if self._staging is None:
                raise
            self._failure = self._failure or error

    def _get_output_dir(self, trial):
        return super()._get_output_dir(trial) if self._staging is None else str(self._staging)

    def create_model_card(self, *args, **kwargs):
        with self._held():
            super().create_model_card(*args, **kwargs)

    def save_model(self, *args, **kwargs):
        with self._held():
            super().save_model(*args, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        model = self._bare_model()
        ours = getattr(getattr(model, "config", None), "model_type", None) == "pmc_cambrian"
        if ours and self.args.should_save and self.processing_class and not hasattr(model, "peft_config"):
            from semihv_hf.models.export import save_settings

            # The code beside the weights: every checkpoint loads without this package.
            save_settings(model, self.processing_class, output_dir or self.args.output_dir)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        with self._held():
            super()._save_optimizer_and_scheduler(output_dir)

    def _save_scaler(self, output_dir: str) -> None:
        with self._held():
            super()._save_scaler(output_dir)

    def _save_rng_state(self, output_dir: str) -> None:
        with self._held():
            super()._save_rng_state(output_dir)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._staging is None:
            super()._push_from_checkpoint(checkpoint_folder)
        else:  # an upload in the background must not lose its folder to the rename
            self._push_is_due = True

    # ---- Resuming ----

    def _agree_on_checkpoint(self, request: str | bool | None) -> str | None:
        """One process looks, all do the same."""
        outcome: list[Any] = [None, None]
        if self.is_world_process_zero():
            try:
                outcome[0] = self._choose_checkpoint(request)
            except SemiHVError as error:
                outcome[1] = (error.what, error.do)
        if self.args.world_size > 1:
            broadcast_object_list(outcome)
        if outcome[1] is not None:
            raise SemiHVError(*outcome[1])
        return outcome[0]

    def _choose_checkpoint(self, request: str | bool | None) -> str | None:
        run = Path(self.args.output_dir)
        clean_staging(run)
        (run / PREEMPTED_FILE).unlink(missing_ok=True)
        if request in (None, False, "none"):
            found = newest_complete(run, hashes=False)
            if found.path is not None and self.args.save_strategy != "no":
                raise SemiHVError(
                    f"{run} holds {found.path.name} of an earlier run.",
                    "Go on from it with `resume: auto`, or choose another output_dir.",
                )
            return None
        if request in (True, "auto"):
            path, skipped = newest_complete(run, resumable=True)
            for folder in skipped:
                self._say(f"Skipped {folder}.")
            if path is None:
                self._say(f"No complete checkpoint in {run}: training starts from the beginning.")
                return None
            manifest = verify(path, hashes=False)
        else:
            path = Path(request)
            manifest = verify(path)
            if not manifest["resumable"]:
                raise SemiHVError(f"{path} holds weights only, no optimizer.", "Pass it as the model of a new run.")
        self._refuse_other_run(path, manifest)
        self._say(f"Resuming from {path}, step {manifest['step']}.")
        return str(path)

    def _refuse_other_run(self, path: Path, manifest: dict[str, Any]) -> None:
        clause = difference(manifest["run"], self._facts)
        if clause is not None:
            raise SemiHVError(
                f"{path} cannot be resumed by this run: {clause}.",
                "Use the recipe, model and data it was written with, or another output_dir.",
            )
        if manifest["run"]["world_size"] != self.args.world_size:
            self._say(
                f"{path.name} was written by {manifest['run']['world_size']} processes, this run has "
                f"{self.args.world_size}: random states begin anew, so the loss will differ in its last digits."
            )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        if self._strategy() != "replicated":
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        self._load_whole(resume_from_checkpoint, verify(resume_from_checkpoint, hashes=False))

    def _load_best_model(self) -> None:
        if self._is_leaving():
            return
        # Verified whole: it may have been written days ago.
        manifest = verify(self.state.best_model_checkpoint)
        if self._strategy() != "replicated":
            super()._load_best_model()
            return
        self._load_whole(self.state.best_model_checkpoint, manifest)

    def _load_whole(self, folder: str, manifest: dict[str, Any]) -> None:
        model = self._bare_model()
        load_weights(model, folder)
        now = parameter_digests(model)
        differing = [name for name, digest in manifest["parameters"].items() if now.get(name) != digest]
        if differing:
            raise SemiHVError(
                f"{len(differing)} parameters are not as they were when {folder} was written, e.g. {differing[0]}.",
                "Start from the model and in the precision of the run that wrote it.",
            )

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None and self._strategy() == "replicated":
            for name in ("optimizer.pt", "scheduler.pt"):
                if not (Path(checkpoint) / name).is_file():
                    raise SemiHVError(f"{checkpoint} has no {name}.", "Resume from another checkpoint.")
        super()._load_optimizer_and_scheduler(checkpoint)

    def _init_training_state(self, *args, **kwargs):
        result = super()._init_training_state(*args, **kwargs)
        self._point_to_best(Path(self.args.output_dir), "")  # the run's folder may have been moved
        return result

    # ---- Facts about the run ----

    def _strategy(self) -> str:
        if self.is_deepspeed_enabled:
            return f"deepspeed-zero{self.accelerator.state.deepspeed_plugin.zero_stage}"
        return "fsdp" if self.is_fsdp_enabled else "replicated"

    def _refuse_scattered_weights(self) -> None:
        """A run whose weights nobody could load afterwards is refused before its first step."""
        state = self.accelerator.state
        if self.is_deepspeed_enabled:
            plugin = state.deepspeed_plugin
            zero = plugin.deepspeed_config.get("zero_optimization", {})
            if plugin.zero_stage == 3 and zero.get("stage3_gather_16bit_weights_on_model_save") is not True:
                raise SemiHVError(
                    "ZeRO-3 without stage3_gather_16bit_weights_on_model_save writes no loadable weights.",
                    "Set zero3_save_16bit_model: true in the accelerate file.",
                )
        elif self.is_fsdp_enabled and "FULL_STATE_DICT" not in str(state.fsdp_plugin.state_dict_type):
            raise SemiHVError(
                f"FSDP with {state.fsdp_plugin.state_dict_type} writes no loadable weights.",
                "Set fsdp_state_dict_type: FULL_STATE_DICT in the accelerate file.",
            )

    def _preemption(self) -> PreemptionCallback | None:
        found = (item for item in self.callback_handler.callbacks if isinstance(item, PreemptionCallback))
        return next(found, None)

    def _is_leaving(self) -> bool:
        preemption = self._preemption()
        return preemption is not None and preemption.stopped

    def _bare_model(self):
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def _say(self, line: str) -> None:
        if self.is_world_process_zero():
            print(line, flush=True)
