"""Which option letter an answer to a multiple-choice case gives, by the parser of the `multiple_choice` metric."""

import importlib
import importlib.machinery
import importlib.util
import re
import sys

from semihv_hf.resources import resource_dir

_OPTION_LINE = re.compile(r"^[ \t]*\(?([A-H])[.):][ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
# The metric's folder is loaded under this name: it must stay usable without this package, so it is no part of it.
_PARSER_PACKAGE = "semihv_hf_multiple_choice_metric"


def options_in(question: str) -> dict[str, str]:
    """Reads the lettered options of a question.

    Args:
        question (`str`): a text with one option a line, such as `"B. a cyst"`.

    Returns:
        `dict[str, str]`: the option text of each letter, in order.
    """
    return dict(_OPTION_LINE.findall(question))


def chosen_letter(answer: str, options: dict[str, str]) -> tuple[str | None, str]:
    """Reads the choice out of an answer. Two letters, two options, or none of either is no choice; nothing is guessed.

    Args:
        answer (`str`): the answer.
        options (`dict[str, str]`): the option text of each letter.

    Returns:
        `tuple[str | None, str]`: the letter or `None`, and the rule: `"letter"`, `"option_text"`, `"several"`,
        `"none"` or `"empty"`.
    """
    return _parser().parse_choice(answer, options)


def _parser():
    """The module `choice_parser` of the metric's folder."""
    if _PARSER_PACKAGE not in sys.modules:
        folder = resource_dir("metrics") / "multiple_choice"
        spec = importlib.machinery.ModuleSpec(_PARSER_PACKAGE, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        sys.modules[_PARSER_PACKAGE] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"{_PARSER_PACKAGE}.choice_parser")
