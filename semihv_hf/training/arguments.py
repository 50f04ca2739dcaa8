"""Settings of a stage, and the check that refuses a key that no setting has."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, fields
from pathlib import Path

from semihv_hf.errors import SemiHVError


@dataclass
class StageArguments:
    """What a stage trains on what; everything else is TRL's `SFTConfig`."""

    model: str = field(metadata={"help": "Folder or Hub id of the checkpoint to start from."})
    dataset: str = field(metadata={"help": "Folder or Hub id of the dataset."})
    dataset_config: str = field(metadata={"help": "Configuration of the dataset, e.g. instruction."})
    stage: str = field(metadata={"help": "Name of the stage, e.g. 2_instruction."})
    title: str = field(metadata={"help": "Title of the stage in reports."})
    trainable: list[str] = field(
        default_factory=list, metadata={"help": "Regular expressions on whole names of parameters that train."}
    )
    learning_rates: dict = field(
        default_factory=dict, metadata={"help": "Learning rate of the parameters that match a pattern, as JSON."}
    )
    dataset_split: str = field(default="train", metadata={"help": "Split of the dataset."})
    alignment_weight: float = field(default=0.0, metadata={"help": "Weight of the alignment objective, 0 for none."})
    alignment_groups: list[str] = field(
        default_factory=list, metadata={"help": "Groups of facts of the alignment objective, alternatives by '|'."}
    )
    connector_follows_text: bool = field(
        default=True, metadata={"help": "Whether the language modelling loss reaches the connector."}
    )
    revision: str | None = field(default=None, metadata={"help": "Revision of the model on the Hub."})


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

    path = Path(recipe)
    if not path.is_file():
        raise SemiHVError(f"There is no recipe {path}.", "Recipes lie under recipes/<stage>/<variant>.yaml.")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise SemiHVError(f"{path} is no YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise SemiHVError(f"{path} holds no settings.", "Write one `key: value` a line.")
    known = {item.name for argument_class in argument_classes for item in fields(argument_class)} | {"env"}
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            raise SemiHVError(f"{path}: unknown key {key!r}.", f"Did you mean {near[0]!r}?")
