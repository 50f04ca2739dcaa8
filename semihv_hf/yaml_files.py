"""YAML that may come from a stranger: plain values only, of bounded size and depth."""

from typing import Any

import yaml

MAX_LETTERS = 16 << 20
# Values after every alias is written out: `*a` in `*b` in `*c` … grows without end although the file is small.
MAX_VALUES = 200_000
MAX_DEPTH = 100


def safe_yaml(text: str) -> Any:
    """Parses YAML, or JSON, which is YAML.

    Args:
        text (`str`): the text.

    Returns:
        `Any`: mappings, lists, texts, numbers, truth values, dates and `None`; no tag makes anything else.

    Raises:
        `yaml.YAMLError`: it is no YAML, holds a tag that would make an object, contains itself, is too large or too
            deep, or holds a number or date that cannot be.
    """
    if len(text) > MAX_LETTERS:
        raise yaml.YAMLError(f"{len(text):,} letters; {MAX_LETTERS:,} are read")
    try:
        _check_depth(text)
        values, depth = _extent(yaml.compose(text, Loader=yaml.SafeLoader), {}, set())
        if values > MAX_VALUES or depth > MAX_DEPTH:
            raise yaml.YAMLError(
                f"{values:,} values, nested {depth:,} deep, once aliases are written out; {MAX_VALUES:,} values and"
                f" {MAX_DEPTH} levels are read"
            )
        return yaml.safe_load(text)
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
    except (ValueError, OverflowError) as error:  # a number of thousands of digits, an impossible date
        raise yaml.YAMLError(f"a value cannot be read: {str(error)[:200]}") from error


def _check_depth(text: str) -> None:
    """Reads events, which takes no recursion, until the text ends or is too deep: the composer is slow at depth."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(f"it is nested more than {MAX_DEPTH} deep")


def _extent(node, known: dict[int, tuple[int, int]], open_nodes: set[int]) -> tuple[int, int]:
    """How many values a node stands for, and how deep they lie; each node is looked at once."""
    if node is None or isinstance(node, yaml.ScalarNode):
        return 1, 1
    key = id(node)
    if key in known:
        return known[key]
    if key in open_nodes:
        raise yaml.YAMLError("a value contains itself")
    open_nodes.add(key)
    inside = [one for pair in node.value for one in pair] if isinstance(node, yaml.MappingNode) else node.value
    extents = [_extent(one, known, open_nodes) for one in inside]
    open_nodes.discard(key)
    known[key] = 1 + sum(values for values, _ in extents), 1 + max((depth for _, depth in extents), default=0)
    return known[key]
