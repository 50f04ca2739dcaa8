"""YAML from outside: plain values, bounded in size and depth."""

import pytest
import yaml

from semihv_hf.yaml_files import MAX_LETTERS, safe_yaml


def test_plain_values_are_read_as_ever():
    text = "a: 1\nb: [x, 2.5, true, null]\nc: &c {d: 2024-01-31}\ne: *c\n"
    assert safe_yaml(text) == yaml.safe_load(text)
    assert safe_yaml("") is None and safe_yaml('{"a": [1]}') == {"a": [1]}


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['x']",
        "a: !include /etc/passwd",
        "a: &a [*a]",
        "[" * 20_000,
        "- " * 20_000 + "x",
        "a: " + "9" * 5000,
        "a: 2024-13-45",
        "a: \0",
        "x" * (MAX_LETTERS + 1),
        "a: &a [x,x,x,x,x,x,x,x]\n"
        + "".join(f"{new}: &{new} [{','.join(['*' + old] * 8)}]\n" for old, new in zip("abcdefgh", "bcdefghi")),
    ],
    ids=["tag", "own tag", "circle", "deep", "deep blocks", "digits", "date", "NUL", "long", "laughs"],
)
def test_everything_else_is_one_kind_of_error(text):
    with pytest.raises(yaml.YAMLError) as caught:
        safe_yaml(text)
    assert str(caught.value)
