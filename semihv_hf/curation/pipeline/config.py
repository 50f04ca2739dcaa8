"""What a curation does: the recipe `recipes/curate/<name>.yaml`, read once, every key checked."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from semihv_hf.data.schema import SPLITS
from semihv_hf.errors import SemiHVError

if TYPE_CHECKING:
    from semihv_hf.llm.types import ServerSettings

Options = TypeVar("Options")
STAGES = ("duplicates", "classify", "retrieve", "generate")


@dataclass(frozen=True)
class DuplicateStage:
    """Which cases are left out because another shows or says the same.

    Args:
        folder (`str`, *optional*): what an earlier search wrote; without it the search is part of the run.
        benchmarks (`tuple[str, ...]`, *optional*): folders of benchmarks; what they hold is left out, too.
        options (`Mapping`, *optional*): fields of [`semihv_hf.curation.duplicate_options.DuplicateOptions`].
    """

    folder: str | None = None
    benchmarks: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RetrieveStage:
    """Where evidence comes from.

    Args:
        index (`str`): a folder that `semihv index` wrote.
        encoder (`str`, *optional*): the encoder of the queries; by default the one that the index names.
        fusion (`str`, *optional*, defaults to `"clip_sf"`): `"clip_sf"`, `"text"`, `"image"` or `"rrf"`.
        k (`Mapping[str, int]`, *optional*): how many of which corpus; by default one of each.
        floor (`Mapping[str, float]` or `float`, *optional*): the least score of evidence.
        batch (`int`, *optional*, defaults to 32): most queries that are embedded together.
    """

    index: str
    encoder: str | None = None
    fusion: str = "clip_sf"
    k: Mapping[str, int] | None = None
    floor: Mapping[str, float] | float | None = None
    batch: int = 32


@dataclass(frozen=True)
class CurateConfig:
    """A curation.

    A stage whose section is missing from the recipe is not done; `{}` is a section of defaults.

    Args:
        cases (`str`): the dataset folder with the cases, as `semihv build` writes it.
        out (`str`): the folder to write.
        server (`Mapping`, *optional*): fields of [`semihv_hf.llm.ServerSettings`]; `base_url` and `model` are needed
            by every stage that asks.
        splits (`tuple[str, ...]`, *optional*): which splits; all by default.
        limit (`int`, *optional*): only the first cases.
        answers (`str`, *optional*): the folder of the answers that were paid for; `<out>.answers` by default, so that
            it survives the dataset.
        max_cost_usd (`float`, *optional*): the most that a run may spend.
        prices (`Mapping` or `str`, *optional*): own prices, see [`semihv_hf.llm.prices.Prices`].
        attestation (`str`, *optional*): a signed statement for the licence gates.
        block_rows (`int`, *optional*, defaults to 200): cases of one block.
        rows_under_way (`int`, *optional*): cases in memory at a time; four a call that may be open by default.
        duplicates ([`DuplicateStage`], *optional*): see there.
        classify (`Mapping`, *optional*): fields of [`semihv_hf.curation.classify.ClassifyOptions`].
        retrieve ([`RetrieveStage`], *optional*): see there.
        generate (`Mapping`, *optional*): fields of [`semihv_hf.curation.generation.GenerationOptions`].
    """

    cases: str
    out: str
    server: Mapping[str, Any] | None = None
    splits: tuple[str, ...] = SPLITS
    limit: int | None = None
    answers: str | None = None
    max_cost_usd: float | None = None
    prices: Mapping[str, Any] | str | None = None
    attestation: str | None = None
    block_rows: int = 200
    rows_under_way: int | None = None
    duplicates: DuplicateStage | None = None
    classify: Mapping[str, Any] | None = None
    retrieve: RetrieveStage | None = None
    generate: Mapping[str, Any] | None = None

    def __post_init__(self):
        for name in ("block_rows", "rows_under_way", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SemiHVError(f"{name} is {value}.", "Give a number of at least 1.")
        if wrong := [name for name in self.splits if name not in SPLITS]:
            raise SemiHVError(f"There is no split {wrong[0]!r}.", f"There are: {', '.join(SPLITS)}.")
        if self.classify is None and self.generate is None:
            raise SemiHVError(
                "The recipe has neither `classify` nor `generate`.", "Write `generate: {}` for defaults."
            )
        if self.retrieve is not None and self.generate is None:
            raise SemiHVError("The recipe retrieves evidence for nothing.", "Add `generate`, or drop `retrieve`.")

    @property
    def answers_folder(self) -> Path:
        """Where answers are kept."""
        return Path(self.answers) if self.answers else Path(f"{str(self.out).rstrip('/')}.answers")

    def settings(self) -> ServerSettings:
        """The server.

        Raises:
            `SemiHVError`: there is none, or a setting is wrong.
        """
        from semihv_hf.llm.types import ServerSettings

        given = dict(self.server or {})
        check_keys(ServerSettings, given, "server")
        for name, example in (("base_url", "http://127.0.0.1:8000/v1"), ("model", "gpt-4o")):
            if not given.get(name):
                raise SemiHVError(f"The recipe names no server.{name}.", f"Such as {name}: {example}")
        return options_of(ServerSettings, given, "server")

    @property
    def width(self) -> int:
        """Cases in memory at a time."""
        return self.rows_under_way or 4 * int((self.server or {}).get("max_concurrency", 16))

    def changed(self, **values: Any) -> CurateConfig:
        """The same with other values; those that are `None` stay.

        Args:
            values (`Any`): by name.
        """
        return replace(self, **{name: value for name, value in values.items() if value is not None})

    def content(self) -> dict[str, Any]:
        """What can change the output: no places, no speed, no limits of spending."""
        server = dict(self.server or {})
        for name in ("max_concurrency", "timeout", "max_retries", "api_key_env"):
            server.pop(name, None)
        retrieve = None if self.retrieve is None else vars(self.retrieve) | {"index": None, "batch": None}
        duplicates = None
        if self.duplicates is not None:
            duplicates = {"options": dict(self.duplicates.options), "benchmarks": len(self.duplicates.benchmarks)}
        return {
            "server": server,
            "splits": list(self.splits),
            "limit": self.limit,
            "duplicates": duplicates,
            "classify": None if self.classify is None else dict(self.classify),
            "retrieve": retrieve,
            "generate": None if self.generate is None else dict(self.generate),
        }


def read_config(path: str | Path, **overrides: Any) -> CurateConfig:
    """Reads a recipe.

    Args:
        path (`str` or `pathlib.Path`): a YAML file, or the name of one of the recipes of this package.
        overrides (`Any`): values that replace those of the file; `None` leaves them.

    Returns:
        [`CurateConfig`]: the curation.

    Raises:
        `SemiHVError`: there is no such file, or a key or value is wrong; the message names the nearest valid one.
    """
    import yaml

    from semihv_hf.yaml_files import safe_yaml

    file = _recipe(path)
    try:
        given = safe_yaml(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise SemiHVError(f"{file} is no YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(given, dict):
        raise SemiHVError(f"{file} holds no settings.", "Write one `key: value` a line.")
    given |= {name: value for name, value in overrides.items() if value is not None}
    for name, example in (("cases", "--data data/cases"), ("out", "--out data/curated")):
        if given.get(name) is None:
            raise SemiHVError(
                f"{file} names no `{name}`.", f"Write it there, or say it on the command line: {example}"
            )
    return options_of(CurateConfig, given, file.name)


def _recipe(path: str | Path) -> Path:
    from semihv_hf.resources import resource_dir

    file = Path(path).expanduser()
    if file.is_file():
        return file
    folder = resource_dir("recipes") / "curate"
    shipped = {one.stem: one for one in sorted(folder.glob("*.yaml"))}
    if str(path) in shipped:
        return shipped[str(path)]
    raise SemiHVError(f"There is no recipe {path}.", f"Give a file, or one of: {', '.join(shipped)}.")


def options_of(kind: type[Options], given: Mapping[str, Any] | None, where: str) -> Options:
    """A dataclass from a mapping of a recipe.

    Args:
        kind (`type`): the dataclass.
        given (`Mapping`, *optional*): its fields; lists become tuples where the field is one.
        where (`str`): the section, for messages.

    Returns:
        `Any`: the dataclass.

    Raises:
        `SemiHVError`: a key is unknown, missing, or of the wrong kind.
    """
    if given is not None and not isinstance(given, Mapping):
        raise SemiHVError(f"{where} is {given!r}, no settings.", "Write one `key: value` a line, or {}.")
    given = dict(given or {})
    known = check_keys(kind, given, where)
    for name, item in known.items():
        if name not in given and item.default is MISSING and item.default_factory is MISSING:
            raise SemiHVError(f"{where}: {name} is missing.")
    hints = _hints(kind)
    return kind(**{name: _fit(value, hints.get(name, Any), f"{where}: {name}") for name, value in given.items()})


def check_keys(kind: type, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of a dataclass, if all keys are among them.

    Args:
        kind (`type`): the dataclass.
        given (`Mapping[str, Any]`): a section of a recipe.
        where (`str`): the section, for messages.

    Raises:
        `SemiHVError`: a key is unknown; the message names the nearest.
    """
    known = {item.name: item for item in fields(kind) if item.init}
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            raise SemiHVError(f"{where}: unknown key {key!r}.", f"Did you mean {near!r}?")
    return known


def _hints(kind: type) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except NameError:  # a type that only type checkers import: the dataclass itself checks what it is given
        return {}


_SIMPLE = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", Mapping: "a mapping"}


def _fit(value: Any, hint: Any, where: str) -> Any:
    """A value of YAML as the field wants it: lists as tuples; numbers, texts and switches are checked."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for kind in kinds:
        origin = get_origin(kind) or kind
        if is_dataclass(kind) and isinstance(value, Mapping):
            return options_of(kind, value, where)
        if not isinstance(origin, type) or kind is Any:  # a Literal or the like: the dataclass knows better
            return value
        if origin in (tuple, frozenset, list) and isinstance(value, list | tuple):
            return origin(value)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, origin) and not (kind is int and isinstance(value, bool)):
            return value
    wanted = [_SIMPLE.get(get_origin(kind) or kind, "a list") for kind in kinds if kind is not type(None)]
    raise SemiHVError(f"{where} is {value!r}.", f"Give {' or '.join(wanted)}.")
