"""What the launcher was asked for against what the run got: a difference stops the run before the first step.

Some combinations do not fail, they train something else in silence: two processes on CPUs that never meet, an FSDP
file that becomes plain data parallelism, a precision that a file sets behind the recipe's back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from semihv_hf.errors import SemiHVError

STRATEGIES = ("single", "ddp", "fsdp1", "fsdp2", "zero0", "zero1", "zero2", "zero3")
PRECISIONS = ("no", "fp16", "bf16", "fp8")


@dataclass(frozen=True)
class Strategy:
    """How a model is spread over processes.

    Args:
        name (`str`): one of `single`, `ddp`, `fsdp1`, `fsdp2`, `zero0` to `zero3`.
        processes (`int`): processes that train together.
        mixed_precision (`str`, *optional*): `no`, `bf16`, `fp16`, `fp8`; `None` where nothing was said about it.
        source (`str`): where this is written, for messages.
    """

    name: str
    processes: int
    mixed_precision: str | None = None
    source: str = "the run"

    def __str__(self) -> str:
        return f"{self.name} on {self.processes} process{'' if self.processes == 1 else 'es'}"


def asked_for() -> Strategy | None:
    """
    What started this process: `accelerate launch` with its file and options, or `torchrun`.

    Returns:
        [`Strategy`], or `None` for a plain `python`.
    """
    arguments = _launch_arguments()
    if arguments is not None:
        return launch_request(arguments)
    if "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ:
        world = int(os.environ["WORLD_SIZE"])
        return Strategy("ddp" if world > 1 else "single", world, None, "torchrun")
    return None


def launch_request(arguments: Sequence[str]) -> Strategy | None:
    """
    Reads the arguments of `accelerate launch` and the file they name.

    Args:
        arguments (`Sequence[str]`): what follows `accelerate launch`, the script and its arguments included.

    Returns:
        [`Strategy`], or `None` if neither options nor a file say anything.

    Raises:
        `SemiHVError`: if the file cannot be read.
    """
    import yaml
    from accelerate.commands.config.config_args import default_config_file
    from accelerate.commands.launch import launch_command_parser

    options = launch_command_parser().parse_args(list(arguments))
    path = options.config_file or (default_config_file if Path(default_config_file).is_file() else None)
    content: dict = {}
    if path is not None:
        try:
            content = yaml.safe_load(Path(path).read_text()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise SemiHVError(f"The accelerate file {path} cannot be read: {' '.join(str(error).split())}.") from error
    flags = {"DEEPSPEED": options.use_deepspeed, "FSDP": options.use_fsdp, "MULTI_GPU": options.multi_gpu}
    kind = next((name for name, given in flags.items() if given), str(content.get("distributed_type", "NO")).upper())
    processes = options.num_processes or content.get("num_processes")
    precision = options.mixed_precision or content.get("mixed_precision")
    if path is None and kind == "NO" and processes is None:
        return None
    if kind == "DEEPSPEED":
        name = f"zero{_zero_stage(options, content)}"
    elif kind == "FSDP":
        given = "fsdp_version" in getattr(options, "nondefault", ())
        name = f"fsdp{options.fsdp_version if given else (content.get('fsdp_config') or {}).get('fsdp_version', 1)}"
    else:
        name = "single" if kind == "NO" and int(processes or 1) == 1 else "ddp"
    source = "the options of accelerate launch" if path is None else f"{Path(path).parent.name}/{Path(path).name}"
    return Strategy(name, int(processes or 1), None if precision is None else str(precision).lower(), source)


def _zero_stage(options, content: dict) -> int:
    settings = content.get("deepspeed_config") or {}
    file = options.deepspeed_config_file or settings.get("deepspeed_config_file")
    if file:
        try:
            return int(json.loads(Path(file).read_text())["zero_optimization"]["stage"])
        except (OSError, ValueError, KeyError) as error:
            raise SemiHVError(f"The DeepSpeed file {file} names no ZeRO stage ({type(error).__name__}).") from error
    given = options.zero_stage if "zero_stage" in getattr(options, "nondefault", ()) else None
    return int(given if given is not None else settings.get("zero_stage", options.zero_stage or 2))


def _launch_arguments() -> list[str] | None:
    """The arguments of the `accelerate launch` that started this process, from the processes above this one."""
    import psutil

    try:
        above = psutil.Process().parents()
    except psutil.Error:  # processes that may not be looked at
        return None
    for process in above:
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        found = arguments_of(command)
        if found is not None:
            return found
    return None


def arguments_of(command: Sequence[str]) -> list[str] | None:
    """
    What follows `accelerate launch` in a command line.

    Args:
        command (`Sequence[str]`): program and arguments, e.g. `["python", "/bin/accelerate", "launch", "x.py"]`.

    Returns:
        `list[str]`: the arguments, or `None` if it is another command.
    """
    command = list(command)
    for index, word in enumerate(command[:4]):
        name = Path(word).name
        if name == "accelerate-launch" or word == "accelerate.commands.launch":
            return command[index + 1 :]
        launcher = name in ("accelerate", "accelerate.exe") or word == "accelerate.commands.accelerate_cli"
        if launcher and command[index + 1 : index + 2] == ["launch"]:
            return command[index + 2 :]
    return None


def got(config, accelerator=None) -> Strategy:
    """
    What the run got.

    Args:
        config (`transformers.TrainingArguments`): made already, so that the processes have met.
        accelerator (`accelerate.Accelerator`, *optional*): the trainer's; before it exists, what it will do is told.

    Returns:
        [`Strategy`]
    """
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    state = accelerator.state if accelerator is not None else PartialState()
    processes = state.num_processes
    plugin = accelerator.state.deepspeed_plugin if accelerator is not None else config.deepspeed_plugin
    if plugin is not None:
        name = f"zero{plugin.zero_stage}"
    elif accelerator is not None and state.distributed_type == DistributedType.FSDP:
        name = f"fsdp{accelerator.state.fsdp_plugin.fsdp_version}"
    elif accelerator is None and _fsdp_ahead(config, state.distributed_type):
        name = f"fsdp{_fsdp_version(config)}"
    else:
        name = "single" if processes == 1 else "ddp"
    precision = "fp16" if config.fp16 else "bf16" if config.bf16 else "no"
    return Strategy(name, processes, precision)


def _fsdp_ahead(config, kind) -> bool:
    """Whether the accelerator will shard: it does so only where there is a device other than the CPU."""
    from accelerate.utils import DistributedType

    wanted = config.fsdp_plugin_args is not None or os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true")
    return wanted and kind not in (DistributedType.NO, DistributedType.MULTI_CPU)


def _fsdp_version(config) -> int:
    if config.fsdp_plugin_args is not None:
        return int(config.fsdp_plugin_args.get("fsdp_version", 1))
    return int(os.environ.get("FSDP_VERSION", "1"))


def check_strategy(asked: Strategy | None, run: Strategy, *, name: str | None = None, processes: int | None = None):
    """
    Compares what was asked for with what the run got.

    Args:
        asked ([`Strategy`], *optional*): from [`asked_for`].
        run ([`Strategy`]): from [`got`].
        name (`str`, *optional*): the strategy that the recipe expects.
        processes (`int`, *optional*): the processes that the recipe expects.

    Raises:
        `SemiHVError`: one line that names the first difference.
    """
    if name is not None and name not in STRATEGIES:
        raise SemiHVError(f"expect_strategy is {name!r}.", f"Choose one of {', '.join(STRATEGIES)}.")
    if name is not None and name != run.name:
        raise SemiHVError(f"The recipe expects {name}, but the run got {run}.", "Take another accelerate file.")
    if processes is not None and processes != run.processes:
        raise SemiHVError(
            f"The recipe expects {processes} processes, but the run got {run}.", "Set --num_processes of the launcher."
        )
    if asked is None:
        return
    if asked.processes != run.processes:
        raise SemiHVError(
            f"{asked.source} asks for {asked}, but each process sees {run.processes}: the processes did not meet.",
            "On CPUs give --use_cpu true and start by `torchrun --nproc_per_node N`, or, with a DeepSpeed file, by "
            "accelerate with DS_ACCELERATOR=cpu.",
        )
    if asked.name != run.name:
        raise SemiHVError(
            f"{asked.source} asks for {asked}, but the run got {run.name}.",
            "FSDP needs a GPU, and use_cpu in the accelerate file or the recipe turns it off."
            if asked.name.startswith("fsdp")
            else "Start with the accelerate file of the strategy that you want.",
        )
    if asked.mixed_precision is not None and asked.mixed_precision != run.mixed_precision:
        raise SemiHVError(
            f"{asked.source} says mixed_precision {asked.mixed_precision}, but the recipe says {run.mixed_precision} "
            "(bf16, fp16).",
            "Leave mixed_precision out of the accelerate file: the recipe decides.",
        )


def check_deepspeed(config) -> None:
    """
    Compares the settings that a DeepSpeed file and a recipe both have; transformers does so at the first step.

    Args:
        config (`transformers.TrainingArguments`): the recipe's.

    Raises:
        `SemiHVError`: one line that names the first difference.
    """
    given = {} if config.deepspeed_plugin is None else config.deepspeed_plugin.deepspeed_config
    for theirs, ours in (
        ("gradient_accumulation_steps", "gradient_accumulation_steps"),
        ("gradient_clipping", "max_grad_norm"),
        ("train_micro_batch_size_per_gpu", "per_device_train_batch_size"),
    ):
        value, recipe = given.get(theirs, "auto"), getattr(config, ours)
        if value != "auto" and float(value) != float(recipe):
            raise SemiHVError(
                f"The DeepSpeed settings of the launcher say {theirs} {value}, but the recipe says {ours} {recipe}.",
                f"Set {theirs}: auto in the accelerate file: the recipe decides.",
            )
