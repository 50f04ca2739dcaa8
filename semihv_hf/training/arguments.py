"""Settings of a stage, and the check that refuses a key that no setting has."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field, fields
from pathlib import Path

from semihv_hf.errors import SemiHVError, first_line

SAMPLINGS = ("length", "trainer")
LONG_ROWS = ("drop", "refuse")
# Settings that transformers has renamed. It takes the old name only where the new one is not set, and warns.
RENAMED = {
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
}


@dataclass
class RunArguments:
    """What every run of a recipe is told: the model, the data, what trains."""

    model: str = field(metadata={"help": "Folder or Hub id of the checkpoint to start from."})
    stage: str = field(metadata={"help": "Name of the stage, e.g. 2_instruction."})
    title: str = field(metadata={"help": "Title of the stage in reports."})
    revision: str | None = field(default=None, metadata={"help": "Revision of the model on the Hub."})
    dataset: str | None = field(default=None, metadata={"help": "Folder or Hub id of the dataset."})
    dataset_config: str | None = field(
        default=None, metadata={"help": "Configuration of the dataset, e.g. instruction."}
    )
    dataset_split: str = field(default="train", metadata={"help": "Split of the dataset."})
    trainable: list[str] = field(
        default_factory=list, metadata={"help": "Regular expressions on whole names of parameters that train."}
    )
    lora_r: int = field(default=0, metadata={"help": "Rank of the LoRA adapters, 0 for none."})
    lora_alpha: int = field(default=16, metadata={"help": "Scale of the adapters, divided by their rank."})
    lora_dropout: float = field(default=0.05, metadata={"help": "Dropout before the adapters."})
    lora_target_modules: str | None = field(
        default=None,
        metadata={"help": "Regular expression on whole module names; by default the text decoder's linear layers."},
    )
    lora_merge: bool = field(
        default=False, metadata={"help": "Whether the last checkpoint holds merged weights in place of the adapter."}
    )
    load_in_4bit: bool = field(default=False, metadata={"help": "QLoRA: the text model's weights in 4 bit."})
    max_bad_rows: int = field(
        default=0, metadata={"help": "Rows that cannot be used, such as by their image, before the run stops."}
    )
    expect_strategy: str | None = field(
        default=None, metadata={"help": "Stop unless the run gets it: single, ddp, fsdp2, zero2 or zero3."}
    )
    expect_processes: int | None = field(default=None, metadata={"help": "Stop unless so many processes train."})
    monitoring: bool = field(default=True, metadata={"help": "Log tokens/s, images/s, gradient norms and waiting."})
    dry_run: bool = field(default=False, metadata={"help": "Print the first batch with its masks, and stop."})
    plan: dict | str | None = field(
        default=None,
        metadata={"help": "What the estimate assumes: gpu, rows, tokens_per_row, images_per_row, utilisation."},
    )

    def __post_init__(self):
        self.plan = _mapping("plan", self.plan)
        if self.load_in_4bit and not self.lora_r:
            raise SemiHVError("load_in_4bit is set without lora_r: 4-bit weights cannot train.", "Set lora_r.")


@dataclass
class StageArguments(RunArguments):
    """What a stage trains on what; everything else is TRL's `SFTConfig`."""

    # Data: one dataset, or a mixture of several.
    mixture: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Several datasets in place of one: mappings (JSON on the command line) with the keys dataset, "
            "config, split, revision and weight. With weights rows are drawn in these shares, else all are used once."
        },
    )
    mixture_stop: str = field(
        default="first_exhausted",
        metadata={"help": "When a weighted mixture ends: first_exhausted, all_exhausted (rows repeat)."},
    )
    eval_split: str | None = field(
        default=None, metadata={"help": "Split to evaluate on, with eval_strategy; of eval_dataset, else of dataset."}
    )
    eval_dataset: str | None = field(default=None, metadata={"help": "Dataset to evaluate on."})
    eval_config: str | None = field(default=None, metadata={"help": "Configuration of that dataset."})
    replay_share: float | None = field(
        default=None,
        metadata={"help": "Share of rows drawn from the entries of mixture with `replay: true`, in place of weights."},
    )
    streaming: bool = field(default=False, metadata={"help": "Read rows while training; needs max_steps."})
    stream_buffer: int = field(
        default=1000,
        metadata={"help": "With streaming: rows, in each worker, from which the next is drawn; 0 keeps the order."},
    )
    long_rows: str = field(
        default="drop", metadata={"help": "Rows longer than max_length: drop (counted) or refuse (an error)."}
    )
    sampling: str = field(
        default="length",
        metadata={"help": "Batches of rows of like length (length), or the trainer's own order (trainer)."},
    )
    pack_length: int | None = field(
        default=None, metadata={"help": "With packing: tokens of a pack; by default max_length."}
    )

    # What trains.
    learning_rates: dict | str | None = field(
        default=None, metadata={"help": "Learning rate of the parameters that match a pattern, as JSON."}
    )
    lora_modules_to_save: list[str] = field(
        default_factory=list, metadata={"help": "Ends of names of modules that train in full beside the adapters."}
    )

    # Of PMC-Cambrian, or of data with facts; all off by default.
    alignment_weight: float = field(default=0.0, metadata={"help": "Weight of the alignment objective, 0 for none."})
    alignment_groups: list[str] = field(
        default_factory=list, metadata={"help": "Groups of facts of the alignment objective, alternatives by '|'."}
    )
    connector_follows_text: bool = field(
        default=True, metadata={"help": "Whether the language modelling loss reaches the connector."}
    )
    tower_cache: str | None = field(default=None, metadata={"help": "Folder that keeps features of frozen towers."})
    tower_micro_batch: int | None = field(
        default=None, metadata={"help": "Images that go through the towers together; all of a batch by default."}
    )
    score_labelled_only: bool | None = field(
        default=None,
        metadata={"help": "Score only positions with a label; by default on a CPU, where the head is a plain layer."},
    )

    # Run.
    resume: str = field(
        default="auto",
        metadata={"help": "auto: from the newest complete checkpoint in output_dir, if any; none; or a folder."},
    )
    spike_guard: bool = field(default=True, metadata={"help": "Stop at NaN or a loss spike, naming the rows."})

    def __post_init__(self):
        super().__post_init__()
        self.learning_rates = _rates(_mapping("learning_rates", self.learning_rates))
        self.mixture = _with_replay([_mapping("mixture", entry) for entry in self.mixture], self.replay_share)
        _one_of("sampling", self.sampling, SAMPLINGS)
        _one_of("long_rows", self.long_rows, LONG_ROWS)
        _one_of("mixture_stop", self.mixture_stop, ("first_exhausted", "all_exhausted"))
        if bool(self.dataset) == bool(self.mixture):
            raise SemiHVError(
                "Both dataset and mixture are set." if self.dataset else "No dataset is set.",
                "Set either dataset (with dataset_config) or mixture.",
            )
        if self.lora_r and self.trainable:
            raise SemiHVError(
                "trainable and lora_r are both set: with adapters these and lora_modules_to_save are what trains.",
                "Move whole modules from trainable to lora_modules_to_save.",
            )
        if not self.lora_r and not self.trainable:
            raise SemiHVError("Nothing trains: trainable is empty.", "List regular expressions on parameter names.")


def _with_replay(mixture: list[dict], share: float | None) -> list[dict]:
    """The entries of a mixture with weights such that those marked `replay` together have the share."""
    marked = [bool(entry.pop("replay", False)) for entry in mixture]
    if share is None and not any(marked):
        return mixture
    if share is None or not any(marked) or all(marked):
        raise SemiHVError(
            "A replayed share needs replay_share, an entry of mixture with `replay: true`, and one without.",
            "Set all three, or give every entry a weight.",
        )
    if not 0 < share < 1:
        raise SemiHVError(f"replay_share is {share}.", "Give a share between 0 and 1.")
    weights = [entry.get("weight") or 1.0 for entry in mixture]
    totals = {side: sum(weight for weight, m in zip(weights, marked) if m is side) for side in (False, True)}
    return [
        {**entry, "weight": (share if m else 1 - share) * weight / totals[m]}
        for entry, weight, m in zip(mixture, weights, marked)
    ]


def _mapping(name: str, value) -> dict:
    """A mapping from YAML as it is, or one from the command line as JSON."""
    if value is None:
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise SemiHVError(f"{name} is no JSON: {value!r} ({error}).") from error
    if not isinstance(value, dict):
        raise SemiHVError(f"{name} must hold `key: value`, found {value!r}.")
    return dict(value)


def _rates(rates: dict) -> dict[str, float]:
    """Patterns that are patterns, and rates that are numbers: YAML takes `1e-4` for a text."""
    for pattern, rate in rates.items():
        try:
            re.compile(pattern)
            rates[pattern] = float(rate)
        except (re.error, TypeError, ValueError) as error:
            raise SemiHVError(
                f"learning_rates: {pattern!r}: {rate!r} is no regular expression with its rate ({first_line(error)})."
            ) from error
        if not 0 <= rates[pattern] < float("inf"):
            raise SemiHVError(f"learning_rates: the rate of {pattern!r} is {rate}.", "Give a number, 0 or above.")
    return rates


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SemiHVError(f"{name} is {value!r}.", f"Choose one of {', '.join(choices)}.")


def check_recipe_keys(recipe: str | Path, *argument_classes: type) -> None:
    """
    Refuses a recipe with a key that is no setting.

    Args:
        recipe (`str` or `Path`): the YAML file.
        argument_classes (`type`): dataclasses whose fields are the settings.

    Raises:
        `SemiHVError`: naming the key and the nearest setting, or if the file is missing or no YAML mapping.
    """
    import yaml

    from semihv_hf.yaml_files import safe_yaml

    path = Path(recipe)
    if not path.is_file():
        raise SemiHVError(f"There is no recipe {path}.", "Recipes lie under recipes/<stage>/<variant>.yaml.")
    try:
        content = safe_yaml(path.read_text())
    except yaml.YAMLError as error:
        raise SemiHVError(f"{path} is no YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise SemiHVError(f"{path} holds no settings.", "Write one `key: value` a line.")
    for key in content:
        _known(key, argument_classes, f"{path}: unknown key", {"env"})


def read_settings(argv: list[str], *argument_classes: type) -> tuple:
    """
    Reads a recipe named by `--config`, with the options of the command line over it.

    Args:
        argv (`list[str]`): the command line.
        argument_classes (`type`): dataclasses whose fields are the settings.

    Returns:
        `tuple`: an instance of each class, then the path of the recipe or `None`.

    Raises:
        `SemiHVError`: naming a key or option that is no setting, a value of the wrong kind, or a contradiction.
    """
    from trl import TrlParser

    class Parser(TrlParser):
        def set_defaults_with_config(self, **settings):
            return super().set_defaults_with_config(**with_new_names(settings))

        def error(self, message: str):  # argparse would print every option there is
            raise SemiHVError(f"{message[:1].upper()}{message[1:]}.", "See --help.")

    argv = [part for word in argv for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    position = argv.index("--config") if "--config" in argv[:-1] else None
    recipe = None if position is None else argv[position + 1]
    if recipe is not None:
        check_recipe_keys(recipe, *argument_classes)
    rest = argv if position is None else argv[:position] + argv[position + 2 :]
    if not {"-h", "--help"} & set(rest):
        check_option_keys(rest, *argument_classes)
    parser = Parser(argument_classes)
    for old, new in RENAMED.items():  # TRL changes the default of the old name
        parser.set_defaults(**{new: parser.get_default(old)})
    argv = [word for argument in argv for word in _with_new_name(argument)]
    try:
        return (*parser.parse_args_and_config(args=argv), recipe)
    except (ValueError, TypeError) as error:
        raise SemiHVError(f"The settings contradict each other: {first_line(error)}.") from error


def with_new_names(settings: dict) -> dict:
    """
    The settings of a recipe under the names that transformers has given them since.

    Args:
        settings (`dict`): setting to value.

    Returns:
        `dict`

    Raises:
        `SemiHVError`: if a setting has both its names.
    """
    twice = [old for old, new in RENAMED.items() if old in settings and new in settings]
    if twice:
        raise SemiHVError(f"{twice[0]} and {RENAMED[twice[0]]} are both set.", f"Leave {twice[0]}, the old name, out.")
    return {RENAMED.get(key, key): value for key, value in settings.items()}


def _with_new_name(argument: str) -> list[str]:
    """The same for one word of a command line."""
    name, equals, value = argument.partition("=")
    key = name[2:].replace("-", "_") if name.startswith("--") else ""
    if key.removeprefix("no_") not in RENAMED:
        return [argument]
    if key.startswith("no_"):
        return [f"--{RENAMED[key.removeprefix('no_')]}", "false"]
    return [f"--{RENAMED[key]}{equals}{value}"]


def check_option_keys(argv: list[str], *argument_classes: type) -> None:
    """
    Refuses a command line with an option that is no setting.

    Args:
        argv (`list[str]`): arguments such as `["--learning_rate", "1e-4"]`.
        argument_classes (`type`): dataclasses whose fields are the settings.

    Raises:
        `SemiHVError`: naming the option and the nearest setting.
    """
    for argument in argv:
        if argument.startswith("--"):
            key = argument[2:].partition("=")[0].replace("-", "_")
            _known(key.removeprefix("no_") if key.startswith("no_") else key, argument_classes, "unknown option")


def _known(key, argument_classes: tuple[type, ...], what: str, extra: set[str] | None = None) -> None:
    known = {item.name for argument_class in argument_classes for item in fields(argument_class)} | (extra or set())
    if key not in known:
        near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
        raise SemiHVError(f"{what} {key!r}.", f"Did you mean {near[0]!r}?")
