"""What can be chosen about classification."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from semihv_hf.curation.fencing import fence_for, inert
from semihv_hf.curation.prompt_files import SUFFIX, PromptFiles, text_of
from semihv_hf.data.schema import LABELS
from semihv_hf.errors import SemiHVError, first_line

PROMPT = "classify"
FILE = Path(__file__).parent / "prompts" / (PROMPT + SUFFIX)
_PROVIDERS = ("openai", "local")
OUTPUTS = ("schema", "headings")


@dataclass(frozen=True)
class ClassifyOptions:
    """How cases are classified.

    Args:
        names (`tuple[str, ...]`, *optional*): which labels the model may be asked for, of `LABELS`; all by default.
        repeats (`int`, *optional*, defaults to 1): how often each case is asked about, at least 1. With more than one
            the most frequent answer counts, and its share of the answers is the label's agreement.
        check_share (`float`, *optional*, defaults to 0): share of the cases, 0 to 1, in which the model is also asked
            for modality and body part where a rule tells them, so that
            [`semihv_hf.curation.classify_agreement.agreement_with_rules`] can compare; drawn by the case's id.
        keep (`bool`, *optional*, defaults to `True`): whether labels that a model or a label file gave a case before
            stay, and are not asked for again.
        longest (`int`, *optional*, defaults to 512): most pixels of the longer side of an image that is sent. A class
            is coarse: at 512 pixels OpenAI's models count an image as one tile.
        detail (`str`, *optional*, defaults to `"low"`): see [`semihv_hf.llm.images.image_part`].
        provider (`str`, *optional*): `"openai"` or `"local"`, for how an image is sent; by default told from the
            address.
        most_images (`int`, *optional*, defaults to 4): images of a case in a request, at least 1; of more, some that
            are spread evenly, the first and the last among them.
        most_words (`int`, *optional*, defaults to 300): words of each caption, at least 1.
        output (`str`, *optional*, defaults to `"schema"`): `"schema"`, or `"headings"` to ask for lines such as
            `modality: ct` where a model is too small for JSON. Of a single label the class alone is read, too.
        prompt ([`PromptFiles`], `str` or `Path`, *optional*): a template of one's own, instead of
            `prompts/classify.jinja`.

    Raises:
        `SemiHVError`: a choice has no sense, or the template is wrong; the message names it.
    """

    names: tuple[str, ...] = LABELS
    repeats: int = 1
    check_share: float = 0.0
    keep: bool = True
    longest: int = 512
    detail: str = "low"
    provider: str | None = None
    most_images: int = 4
    most_words: int = 300
    output: str = "schema"
    prompt: PromptFiles | str | Path | None = None

    def __post_init__(self):
        from semihv_hf.llm.images import DETAILS

        names = (self.names,) if isinstance(self.names, str) else tuple(self.names)
        if wrong := [name for name in names if name not in LABELS]:
            raise SemiHVError(f"There is no label {wrong[0]!r}.", f"Known are: {', '.join(LABELS)}.")
        if not names:
            raise SemiHVError("No label is asked for.", f"Name some of: {', '.join(LABELS)}.")
        object.__setattr__(self, "names", tuple(name for name in LABELS if name in names))
        for name in ("repeats", "longest", "most_images", "most_words"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SemiHVError(f"{name} is {value!r}.", "Give a whole number of at least 1.")
        share = self.check_share
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise SemiHVError(f"check_share is {share!r}.", "Give a share from 0 to 1.")
        for name, known in (("detail", DETAILS), ("provider", (None, *_PROVIDERS)), ("output", OUTPUTS)):
            if getattr(self, name) not in known:
                shown = ", ".join(one for one in known if one)
                raise SemiHVError(f"The {name} {getattr(self, name)!r} is unknown.", f"Known are {shown}.")
        if not isinstance(self.prompt, PromptFiles):
            object.__setattr__(self, "prompt", _read_prompt(Path(self.prompt or FILE)))

    @property
    def prompt_version(self) -> str:
        """Name, number and the first 12 hex digits of the template's sha256, such as `"classify 1.0a1b2c3d4e5f"`."""
        return self.prompt.version(PROMPT)

    def render(self, names: tuple[str, ...], shown: int, captions: list[str]) -> tuple[str, str]:
        """The texts of a request.

        Args:
            names (`tuple[str, ...]`): the labels that are asked for.
            shown (`int`): how many images are shown.
            captions (`list[str]`): texts about them.

        Returns:
            `tuple[str, str]`: the system text and the user text.
        """
        safe = [inert(caption) for caption in captions]
        values = {"names": names, "shown": shown, "captions": safe, "fence": fence_for(safe), "output": self.output}
        return self.prompt.render(PROMPT, values)


def _read_prompt(path: Path) -> PromptFiles:
    return _checked(text_of(path), str(path))


@lru_cache(maxsize=8)
def _checked(text: str, path: str) -> PromptFiles:
    """Fills a template in once for every kind of request, so that a mistake shows before any call."""
    import jinja2

    prompts = PromptFiles({PROMPT + SUFFIX: text})
    try:
        prompts.version(PROMPT)
        for names in (LABELS, *((name,) for name in LABELS)):
            for shown, captions, output in ((1, [], OUTPUTS[0]), (2, ["a caption"], OUTPUTS[1])):
                values = {"names": names, "shown": shown, "captions": captions, "fence": "~~~~~", "output": output}
                system, user = prompts.render(PROMPT, values)
                if not system or not user or any(caption not in user for caption in captions):
                    raise SemiHVError(f"The prompt {path} lacks its captions or a block.", "Begin from the package's.")
    except jinja2.TemplateError as error:
        raise SemiHVError(f"The prompt {path} is no valid template ({first_line(error)}).", "Correct it.") from error
    except (KeyError, TypeError) as error:  # no block of that name, or no number in the first line
        raise SemiHVError(
            f"The prompt {path} has no number, or not the blocks system and user.", "Begin it with {# version: 1 #}."
        ) from error
    return prompts
