"""BioMed-VITAL instructions (Hub `mao1207/BioMed-VITAL-instructions`; github.com/mao1207/BioMed-VITAL, README).

Conversations about PubMed Central figures that GPT-4V wrote and a model of clinicians' preferences chose. The files
contain one another: 150K is 80K with LLaVA-Med's 10K and 60K, 210K adds 60K more, and all number their rows anew, so
ids repeat. One file is read, the largest unless told otherwise.
"""

from pathlib import Path
from typing import Any, ClassVar

from ...errors import SemiHVError
from ..schema import Fact, Text
from ..sharegpt import Malformed, read_row
from .modality_words import domain_facts
from .sharegpt_source import Row, ShareGptSource, article_of, conversation_text, task_of, writers

_SIZES = ("210K", "150K", "80K", "60K")
_MODEL = "gpt-4-vision-preview"


class BiomedVital(ShareGptSource):
    """Rows {id, image, domain, conversations, fig_caption, fig_label, in_text_mention, pair_id, pmid}.

    Args:
        root (`str` or `pathlib.Path`): the folder with `BioMed-VITAL-instructions-<size>.json` and the figures, which
            are downloaded from PubMed Central after `PMC_image_urls.jsonl`, under `images/` or in zip archives.
        size (`str`, *optional*): `"60K"`, `"80K"`, `"150K"` or `"210K"`; the largest that is there by default.
        held_out (`float`, *optional*, defaults to 0.0): the share of articles that go to the test split.
        seed (`int`, *optional*, defaults to 0): chooses those articles.

    Raises:
        `SemiHVError`: the folder holds none of the files, or not the one that is asked for.
    """

    name: ClassVar[str] = "biomed_vital"
    layout: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            " | ".join(f"BioMed-VITAL-instructions-{size}.json" for size in _SIZES),
            "one list of conversations or several",
        ),
    )

    def __init__(self, root: str | Path, *, size: str | None = None, held_out: float = 0.0, seed: int = 0):
        super().__init__(root, held_out=held_out, seed=seed)
        there = [known for known in _SIZES if self.release.first(f"BioMed-VITAL-instructions-{known}.json")]
        if size is not None and size not in there:
            raise SemiHVError(f"There is no list of size {size!r}.", f"Found: {', '.join(there)}.")
        self.size = size or there[0]

    def files(self) -> list[str]:
        """The one list that is read."""
        return [f"BioMed-VITAL-instructions-{self.size}.json"]

    def understand(self, file: str, place: str, row: Any) -> Row | Malformed:
        """One conversation about one figure."""
        conversation = read_row(row)
        if isinstance(conversation, Malformed):
            return conversation
        pair = str(row.get("pair_id") or "").strip() or conversation_pair(conversation.images)
        pmid = str(row.get("pmid") or "").strip() or article_of(pair)
        facts = domain_facts(row.get("domain"), file)
        facts += [Fact("pair_id", pair, f"{file} key pair_id or image")] if pair else []
        facts += [Fact("pmid", pmid, f"{file} key pmid or pair_id")] if pmid else []
        texts = [
            conversation_text(conversation, task_of(conversation), writers(conversation, "machine", "machine"),
                              model=_MODEL),
            *figure_texts(row),
        ]  # fmt: skip
        images = [[f"images/{name}", name] for name in conversation.images]
        return Row(images, texts, f"pmid {pmid}" if pmid else f"{file} {pair or self.place_of(place, row)}", facts)


def conversation_pair(images: list[str]) -> str:
    """The pair id of a row without one: its image is named after it."""
    return Path(images[0]).stem if len(images) == 1 else ""


def figure_texts(row: dict[str, Any]) -> list[Text]:
    """What the article says about the figure: label, caption and the sentences that mention it.

    Args:
        row (`dict`): with `fig_label`, `fig_caption` and `in_text_mention`; the last is text, or a list of sentences
            or of objects with `tokens`.

    Returns:
        `list[Text]`: of roles `"caption"`, `"figure_label"` and `"mention"`, as far as they are there.
    """
    texts = []
    for role, key in (("caption", "fig_caption"), ("figure_label", "fig_label")):
        if isinstance(row.get(key), str) and row[key].strip():
            texts.append(Text(role, row[key].strip(), "human"))
    mentions = row.get("in_text_mention")
    for mention in mentions if isinstance(mentions, list) else [mentions]:
        sentence = mention.get("tokens") if isinstance(mention, dict) else mention
        sentence = " ".join(map(str, sentence)) if isinstance(sentence, list) else sentence
        if isinstance(sentence, str) and sentence.strip():
            texts.append(Text("mention", sentence.strip(), "human"))
    return texts
