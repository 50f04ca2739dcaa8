"""Small training runs in processes of their own, for tests that kill them.

`python checkpoint_run.py` imports the libraries once, reads one line of JSON settings for each run, forks a process,
answers `pid <n>`, waits, answers `exit <code>` (negative: the signal). A run prints `step <n>` after every step to
`settings["output"]`, and at the end writes `<out>/final.safetensors` and `<out>/log.json`. With settings as its
argument it is one run, for launchers.
"""

import importlib
import importlib.util
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_cambrian import small_towers_config
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from semihv_hf.errors import SemiHVError
from semihv_hf.training.checkpoint_trainer import CheckpointMixin
from semihv_hf.training.preemption import PreemptionCallback

DEFAULTS = {
    "model": "cambrian",
    "out": None,
    "resume": "auto",
    "seed": 0,
    "rows": 10,
    "steps": 12,
    "save_steps": 2,
    "batch": 1,
    "accumulation": 2,
    "limit": None,
    "workers": 0,
    "sampling": "random",
    "stock": False,
    "init_seed": 0,
    "hidden": 48,
    "evaluate": False,
    "fsize": None,
    "signal_at": None,
    "pause": 0.0,
}


class SavingTrainer(CheckpointMixin, Trainer):
    pass


class Pictures(Dataset):
    """Random pixels and tokens, a function of the row's number alone."""

    def __init__(self, model: str, rows: int):
        self.model, self.rows = model, rows

    def __len__(self):
        return self.rows

    def __getitem__(self, row):
        if row >= self.rows:
            raise IndexError(row)  # ends a loop over all rows
        draw = torch.Generator().manual_seed(row)
        if self.model == "llava":
            tokens = [1, 8] + [6] * 16 + [10 + row, 11, 12]
            example = {"pixel_values": torch.randn(3, 32, 32, generator=draw)}
        else:
            tokens = [1, 8] + [6] * 20 + [10 + row, 11, 12]
            sides = {"pixel_values": 32, "pixel_values_clip": 32, "pixel_values_dino": 28, "pixel_values_convnext": 48}
            example = {key: torch.randn(3, side, side, generator=draw) for key, side in sides.items()}
            example["image_sizes"] = torch.tensor([50, 50])
        example["input_ids"] = torch.tensor(tokens)
        example["labels"] = torch.tensor([-100] * (len(tokens) - 3) + tokens[-3:])
        return example


def make_model(name: str, seed: int, hidden: int):
    torch.manual_seed(seed)
    text = {
        "hidden_size": hidden,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 400,
        "pad_token_id": 0,
        "attention_dropout": 0.2,
    }
    if name == "llava":
        from transformers import LlavaConfig, LlavaForConditionalGeneration

        vision = {
            "model_type": "clip_vision_model",
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 24,
            "image_size": 32,
            "patch_size": 8,
            "projection_dim": 16,
        }
        config = LlavaConfig(
            vision_config=vision, text_config={"model_type": "llama", **text}, image_token_index=6, image_seq_length=16
        )
        return LlavaForConditionalGeneration(config)
    from semihv_hf.models.pmc_cambrian.modeling_pmc_cambrian import PMCCambrianForConditionalGeneration

    model = PMCCambrianForConditionalGeneration(small_towers_config(text_config=text))
    if name == "lora":
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(
            model,
            LoraConfig(
                r=4,
                lora_dropout=0.2,
                target_modules=r".*language_model\.layers.*(q_proj|v_proj)",
                modules_to_save=["connector"],
            ),
        )
    return model


class Reporter(TrainerCallback):
    def __init__(self, signal_at: int | None, pause: float):
        self.signal_at = signal_at
        self.pause = pause

    def on_step_end(self, args, state, control, **kwargs):
        print(f"step {state.global_step}", flush=True)
        time.sleep(self.pause)
        if state.global_step == self.signal_at:
            os.kill(os.getpid(), signal.SIGTERM)


def run(**settings) -> Trainer:
    chosen = {**DEFAULTS, **settings}
    out = Path(chosen["out"])
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=chosen["steps"],
        per_device_train_batch_size=chosen["batch"],
        gradient_accumulation_steps=chosen["accumulation"],
        learning_rate=5e-3,
        lr_scheduler_type="cosine",
        warmup_steps=2,
        logging_steps=5,  # not a multiple of save_steps: checkpoints fall between two log lines
        save_strategy="steps" if chosen["save_steps"] else "no",
        save_steps=chosen["save_steps"] or 1,
        save_total_limit=chosen["limit"],
        eval_strategy="steps" if chosen["evaluate"] else "no",
        eval_steps=chosen["save_steps"] if chosen["evaluate"] else None,
        load_best_model_at_end=chosen["evaluate"],
        dataloader_num_workers=chosen["workers"],
        train_sampling_strategy=chosen["sampling"],
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
        seed=chosen["seed"],
    )
    trainer = (Trainer if chosen["stock"] else SavingTrainer)(
        model=make_model(chosen["model"], chosen["init_seed"], chosen["hidden"]),
        args=arguments,
        train_dataset=Pictures(chosen["model"], chosen["rows"]),
        eval_dataset=Pictures(chosen["model"], 2) if chosen["evaluate"] else None,
        callbacks=[Reporter(chosen["signal_at"], chosen["pause"]), PreemptionCallback()],
    )
    trainer.train(resume_from_checkpoint=chosen["resume"])
    return trainer


def main(settings: dict) -> None:
    torch.set_num_threads(1)
    if settings.get("fsize"):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (settings["fsize"], settings["fsize"]))
    trainer = run(**settings)
    if not trainer.is_world_process_zero():
        return
    out = Path(settings["out"])
    state = {name: value.detach().clone().contiguous() for name, value in trainer.model.state_dict().items()}
    save_file(state, str(out / "final.safetensors"))
    keep = ("step", "loss", "grad_norm", "learning_rate", "eval_loss")
    log = [{key: entry[key] for key in keep if key in entry} for entry in trainer.state.log_history]
    (out / "log.json").write_text(json.dumps(log))
    print("done", flush=True)


def child(settings: dict) -> None:
    """One run, its output in a file, ended as the training script ends."""
    with open(settings.pop("output"), "a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    code = 1
    try:
        main(settings)
        code = 0
    except SystemExit as error:
        code = error.code
    except SemiHVError as error:
        print(f"error: {error}", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    # Imported here once instead of in every process.
    for module in ("deepspeed", "peft", "transformers.models.llava", "semihv_hf.models.pmc_cambrian"):
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module)
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            os.setpgrp()  # so that a test can signal it with its data workers
            child(json.loads(line))
        print(f"pid {process}", flush=True)
        _, status = os.waitpid(process, 0)
        print(f"exit {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:  # under a launcher
        try:
            main(json.loads(sys.argv[1]))
        except SemiHVError as error:
            sys.exit(f"error: {error}")
    else:
        serve()
