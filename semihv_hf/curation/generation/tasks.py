"""The generation tasks, and which of them a case gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from semihv_hf.curation.generation import schemas
from semihv_hf.curation.generation.material import captioned_images, case_texts, foreign_texts
from semihv_hf.curation.generation.prompts import Prompts
from semihv_hf.data.schema import Case, content_id

if TYPE_CHECKING:
    from pydantic import BaseModel

    from semihv_hf.curation.generation.options import GenerationOptions

# What a case must have for a task, and what tells whether it has it.
_HAS: Mapping[str, Callable[[Case, GenerationOptions], object]] = {
    "image": lambda case, options: case.images,
    "captioned image": lambda case, options: captioned_images(case, options.language),
    "text": lambda case, options: case_texts(case, options.language),
    "foreign text": lambda case, options: foreign_texts(case, options.language),
    "demonstrations": lambda case, options: options.demonstrations,
}
NEEDS = tuple(_HAS)


@dataclass(frozen=True)
class GenerationTask:
    """One thing that a model is asked to write.

    Args:
        name (`str`): its name, and that of its prompt.
        schema (`type[pydantic.BaseModel]`): the reply.
        needs (`tuple[str, ...]`): what a case must have, of `NEEDS`.
        evidence (`bool`): whether guidelines and similar cases are retrieved for it.
        makes (`tuple[str, ...]`): the tasks of the records that it gives, of `semihv_hf.data.schema.TASKS`.
    """

    name: str
    schema: type[BaseModel]
    needs: tuple[str, ...]
    evidence: bool
    makes: tuple[str, ...]

    @property
    def version(self) -> str:
        """The version of the package's own prompt; see [`Prompts.version`] for a user's."""
        return Prompts.load().version(self.name)


TASKS: Mapping[str, GenerationTask] = {
    task.name: task
    for task in (
        GenerationTask("caption_reformat", schemas.ReformattedCaptions, ("captioned image",), False, ("caption",)),
        GenerationTask("qa", schemas.Pairs, ("image", "text"), False, ("vqa",)),
        GenerationTask("report_qa", schemas.ReportAndPairs, ("image",), True, ("report", "vqa")),
        GenerationTask("augmented_caption", schemas.DescriptionAndPairs, ("image", "text"), False, ("caption", "vqa")),
        GenerationTask("translated_report", schemas.Report, ("image", "foreign text"), False, ("report",)),
        GenerationTask(
            "unblinded", schemas.DescribedDialogue, ("image", "text"), False, ("caption", "vqa", "conversation")
        ),
        GenerationTask(
            "conversation", schemas.Conversation, ("image", "text", "demonstrations"), False, ("conversation",)
        ),
    )
}

# What suits a source, the first choice first: of each inner tuple a case gets the first task that it has all for.
# jama is a benchmark: nothing is made of it to train on.
PLANS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "biomed_vital": (("conversation", "qa"),),
    "deeplesion": (("report_qa",),),
    "eurorad": (("caption_reformat",), ("qa", "report_qa")),
    "jama": (),
    "llava_med": (("conversation", "qa"),),
    "lld_mmri": (("report_qa",),),
    "mama_mia": (("report_qa",),),
    "medthinkvqa": (("caption_reformat",), ("qa", "report_qa")),
    "mimic_cxr": (("qa", "report_qa"),),
    "padchest": (("translated_report", "report_qa"),),
    "pmc_instruct": (("qa",),),
    "pmc_vqa": (("qa",),),
    "pubmedvision": (("unblinded",),),
    "quilt": (("augmented_caption", "report_qa"),),
    "radiopaedia": (("caption_reformat",), ("qa", "report_qa")),
}
_OTHER = (("caption_reformat",), ("qa", "translated_report", "report_qa"))
# Fewest and most questions; elsewhere (1, 3), and of PMC's figures by the length of the caption.
PAIRS: Mapping[str, tuple[int, int]] = {
    "deeplesion": (1, 3),
    "eurorad": (10, 10),
    "lld_mmri": (1, 2),
    "mama_mia": (1, 2),
    "medthinkvqa": (10, 10),
    "quilt": (1, 2),
    "radiopaedia": (3, 10),
}
_BY_LENGTH = ("pmc_instruct", "pmc_vqa", "llava_med", "biomed_vital")
_WORDS_A_PAIR = 25
_TURNS = (4, 8)


def plan(case: Case, options: GenerationOptions) -> list[str]:
    """Which tasks a case gets.

    Args:
        case ([`Case`]): the case.
        options ([`GenerationOptions`]): may name the tasks, or the share of the cases that get one.

    Returns:
        `list[str]`: of `TASKS`; empty where the case has nothing that a task could work on. It depends on the case
        and the options only.
    """
    wanted = PLANS.get(case.source, _OTHER) if options.tasks is None else tuple((name,) for name in options.tasks)
    chosen = []
    for choices in wanted:
        able = next((name for name in choices if not missing(name, case, options)), None)
        if able is not None and able not in chosen and _drawn(able, case, options):
            chosen.append(able)
    return chosen


def missing(task: str, case: Case, options: GenerationOptions) -> list[str]:
    """What a case lacks for a task.

    Args:
        task (`str`): the task.
        case ([`Case`]): the case.
        options ([`GenerationOptions`]): holds the language and the demonstrations.

    Returns:
        `list[str]`: of `NEEDS`.
    """
    return [need for need in TASKS[task].needs if not _HAS[need](case, options)]


def pair_range(task: str, case: Case, options: GenerationOptions) -> tuple[int, int]:
    """The fewest and the most questions to ask for.

    Args:
        task (`str`): the task.
        case ([`Case`]): the case.
        options ([`GenerationOptions`]): may set numbers of its own by source.

    Returns:
        `tuple[int, int]`: from 1 to 10 each. Of a figure with a caption: one for every 25 words of it, at most 8.
    """
    if case.source in options.pairs:
        least, most = options.pairs[case.source]
        return least, most
    if task == "conversation":
        return _TURNS
    if task == "qa" and case.source in _BY_LENGTH:
        words = sum(len(text.text.split()) for text in case_texts(case, options.language))
        return 1, min(8, 1 + words // _WORDS_A_PAIR)
    if task == "qa":
        return PAIRS.get(case.source, (1, 3))
    return (1, min(3, PAIRS.get(case.source, (1, 3))[1]))


def _drawn(task: str, case: Case, options: GenerationOptions) -> bool:
    share = options.shares.get(task, 1.0)
    if share >= 1:
        return True
    place = int(content_id("share", str(options.seed), task, case.id)[:13], 16) / 16**13
    return place < share
