"""Prompt templates: Jinja files with a number and a content hash, which can reach nothing of Python's inside.

A template has two blocks, `system` and `user`. Names that begin with an underscore are parts that others include.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semihv_hf.errors import SemiHVError, first_line

if TYPE_CHECKING:
    from jinja2 import Environment, Template

SUFFIX = ".jinja"
BLOCKS = ("system", "user")
NUMBER = re.compile(r"\A\{#-?\s*version:\s*(\d+)\b")
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")


@dataclass(frozen=True)
class PromptFiles:
    """Some templates.

    Args:
        sources (`Mapping[str, str]`): the text of each file, by file name.
    """

    sources: Mapping[str, str] = field(hash=False)
    _made: dict[str, Any] = field(default_factory=dict, repr=False, compare=False, hash=False, kw_only=True)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_made": {}}  # what is compiled cannot be pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)

    def version(self, task: str) -> str:
        """What a cache, a record and a manifest call the prompt of a task.

        Args:
            task (`str`): the task.

        Returns:
            `str`: name, number and the first 12 hex digits of the sha256 of the file and of all that it includes, for
            example `"qa 1.0a1b2c3d4e5f"`.
        """
        return self._once(f"version {task}", lambda: self._version(task))

    def render(self, task: str, variables: Mapping[str, Any]) -> tuple[str, str]:
        """Fills in a template.

        Args:
            task (`str`): the task.
            variables (`Mapping[str, Any]`): all that the template may name.

        Returns:
            `tuple[str, str]`: the system text and the user text.

        Raises:
            `SemiHVError`: the template names something that it is not given.
        """
        import jinja2

        template = self._once(f"template {task}", lambda: self.template(self.file(task)))
        context = template.new_context(dict(variables))
        rendered = []
        for name in BLOCKS:
            try:
                text = "".join(template.blocks[name](context))
            except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as error:
                raise SemiHVError(
                    f"The prompt {self.file(task)} cannot be filled in ({first_line(error)}).",
                    "Correct the template.",
                ) from error
            rendered.append(_BLANK_LINES.sub("\n\n", text).strip())
        return rendered[0], rendered[1]

    def file(self, task: str) -> str:
        """The file of a task.

        Raises:
            `SemiHVError`: there is none.
        """
        name = task + SUFFIX
        if name not in self.sources or name.startswith("_"):
            raise SemiHVError(f"There is no prompt {name}.", f"Known are {', '.join(sorted(self.sources))}.")
        return name

    def template(self, file: str) -> Template:
        """The compiled template of a file."""
        return self.environment.get_template(file)

    @property
    def environment(self) -> Environment:
        """Where the templates are compiled."""
        return self._once("environment", self._environment)

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def _version(self, task: str) -> str:
        file = self.file(task)
        digest = hashlib.sha256()
        for name in sorted(self._reached(file)):
            for part in (name, self.sources[name]):
                digest.update(len(part.encode()).to_bytes(8, "big") + part.encode())
        return f"{task} {NUMBER.match(self.sources[file])[1]}.{digest.hexdigest()[:12]}"

    def _reached(self, file: str) -> set[str]:
        from jinja2 import meta

        seen, todo = set(), [file]
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                parsed = self.environment.parse(self.sources[name])
                todo += [part for part in meta.find_referenced_templates(parsed) if part is not None]
        return seen

    def _environment(self) -> Environment:
        from jinja2 import DictLoader, StrictUndefined
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        # A recipe and its prompts may be a stranger's: no attribute of Python's inside can be reached.
        return ImmutableSandboxedEnvironment(
            loader=DictLoader(dict(self.sources)),
            undefined=StrictUndefined,
            autoescape=False,
            auto_reload=False,  # else every inclusion of every request asks whether a file has changed
            keep_trailing_newline=True,
            trim_blocks=True,
            lstrip_blocks=True,
        )


def text_of(path: Path) -> str:
    """The text of a template file.

    Args:
        path (`pathlib.Path`): the file.

    Raises:
        `SemiHVError`: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SemiHVError(f"The prompt {path} cannot be read ({first_line(error)}).", "Use a UTF-8 file.") from error
