"""The prompt templates: one Jinja file a task, with a number, a content hash, and a check before anything is asked.

A template has two blocks, `system` and `user`. Names that begin with an underscore are parts that others include.
What a template can name is in `VARIABLES`; every text of a source arrives there already between fence lines, so no
template can show one without its fence.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from semihv_hf.curation.prompt_files import BLOCKS, NUMBER, SUFFIX, PromptFiles, text_of
from semihv_hf.errors import SemiHVError, first_line

FOLDER = Path(__file__).parent / "prompts"
# What a template may name, with what it means; docs/prompts.md says more.
VARIABLES = {
    "captions": "texts that are each about one image: number, title, block",
    "demonstrations": "conversations that clinicians chose: number, images, context, conversation",
    "facts": "what the files state, between fence lines; empty if nothing",
    "fence": "the fence line",
    "guidelines": "retrieved guideline texts: number, block",
    "image_count": "how many images of the case are shown",
    "images": "the place of the case's images",
    "language": "the language to write in, in English words",
    "least": "fewest questions",
    "most": "most questions",
    "output": "schema or headings",
    "scenario": "the kind of dialogue: asks, answers",
    "similar_cases": "retrieved cases: number, images, block",
    "source_language": "the language of the texts, in English words",
    "task": "the name of the task",
    "texts": "texts about the case: title, block",
    "title": "the case's title between fence lines; empty if it has none",
}


@dataclass(frozen=True)
class Prompts(PromptFiles):
    """The templates of all tasks.

    Args:
        sources (`Mapping[str, str]`): the text of each file, by file name.
        own (`tuple[str, ...]`, *optional*): the names that come from a user's folder.
    """

    own: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: str | Path | None = None) -> Prompts:
        """Reads and checks the templates.

        Args:
            folder (`str` or `Path`, *optional*): a folder with templates that take the place of those of the same
                name.

        Returns:
            [`Prompts`]: the templates.

        Raises:
            `SemiHVError`: there is no such folder, a file has a name that no task uses or has no number, or a template
                does not parse or names what it is not given.
        """
        if folder is None:
            return _built_in()
        sources = _built_in().sources
        folder = Path(folder)
        if not folder.is_dir():
            raise SemiHVError(f"There is no folder of prompts {folder}.", "Give a folder with .jinja files.")
        own = {path.name: text_of(path) for path in sorted(folder.glob(f"*{SUFFIX}"))}
        if not own:
            raise SemiHVError(f"The folder {folder} holds no .jinja file.", "Copy the template to change into it.")
        if unknown := [name for name in own if name not in sources]:
            raise SemiHVError(
                f"No task uses the prompt {unknown[0]!r} of {folder}.", f"Known are {', '.join(sorted(sources))}."
            )
        made = cls({**sources, **own}, tuple(own))
        made.check()
        return made

    def check(self) -> None:
        """Parses every template and fills each in with samples of all that it may be given.

        Raises:
            `SemiHVError`: one is wrong; the message names the file.
        """
        import jinja2
        from jinja2 import meta

        for name in sorted(self.sources):
            try:
                parsed = self.environment.parse(self.sources[name])
                self.template(name)
            except jinja2.TemplateError as error:
                raise SemiHVError(
                    f"The prompt {name} is no valid template ({first_line(error)}).", "Correct it."
                ) from error
            if not NUMBER.match(self.sources[name]):
                raise SemiHVError(f"The prompt {name} has no number.", "Begin it with {# version: 1 #}.")
            if unknown := sorted(meta.find_undeclared_variables(parsed) - set(VARIABLES)):
                raise SemiHVError(
                    f"The prompt {name} names {unknown[0]!r}, which nothing fills in.",
                    f"Known are {', '.join(VARIABLES)}.",
                )
            for part in meta.find_referenced_templates(parsed):
                if part not in self.sources:
                    raise SemiHVError(f"The prompt {name} includes {part!r}, which is not there.", "Correct the name.")
        for name in sorted(self.sources):
            if not name.startswith("_"):
                self._check_task(name.removesuffix(SUFFIX))

    def _check_task(self, task: str) -> None:
        name = self.file(task)
        if missing := [block for block in BLOCKS if block not in self.template(name).blocks]:
            raise SemiHVError(
                f"The prompt {name} has no block {missing[0]!r}.", "A prompt has the blocks system, user."
            )
        for sample in _samples(task):
            system, user = self.render(task, sample)
            if not system or not user:
                raise SemiHVError(f"A block of the prompt {name} is empty.", "Write what the model is to do.")
            for number in range(1, sample["image_count"] + 1):
                if f"<image {number}>" not in user:
                    raise SemiHVError(f"The prompt {name} does not show the images.", "Put {{ images }} into it.")


@lru_cache(maxsize=1)
def _built_in() -> Prompts:
    return Prompts({path.name: text_of(path) for path in sorted(FOLDER.glob(f"*{SUFFIX}"))})


def _samples(task: str) -> list[dict[str, Any]]:
    """Fillings that between them take every branch: everything there, and as little as possible."""
    block = "a fenced text"
    full = {
        "captions": [SimpleNamespace(number=1, title="Caption of image 1", block=block)],
        "demonstrations": [SimpleNamespace(number=1, images="(images)", context=block, conversation=block)],
        "facts": block,
        "fence": "~~~~~",
        "guidelines": [SimpleNamespace(number=1, block=block)],
        "image_count": 2,
        "images": "Image 1:\n<image 1>\nImage 2:\n<image 2>",
        "language": "English",
        "least": 1,
        "most": 3,
        "output": "schema",
        "scenario": SimpleNamespace(asks="Somebody asks.", answers="Somebody answers."),
        "similar_cases": [SimpleNamespace(number=1, images="(images)", block=block)],
        "source_language": "Spanish",
        "task": task,
        "texts": [SimpleNamespace(title="Findings", block=block)],
        "title": block,
    }
    lists = ("captions", "demonstrations", "guidelines", "similar_cases", "texts")
    bare = {**full, **{name: [] for name in lists}, "facts": "", "title": "", "most": 1, "output": "headings"}
    bare.update(image_count=1, images="Image 1:\n<image 1>")
    return [full, {**full, "output": "headings"}, {**bare, "output": "schema"}, bare]
