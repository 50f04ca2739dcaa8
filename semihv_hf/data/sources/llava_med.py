"""LLaVA-Med's data (github.com/microsoft/LLaVA-Med, v1.0 README): alignment and instruction lists of PMC figures.

The alignment list asks for a description in one of a few wordings and answers with the figure's own caption; GPT-4
wrote the instruction lists from captions, without the image. Some files spell their key `conversatons`. The images
were never released: a script downloads them after `llava_med_image_urls.jsonl`, and many downloads fail.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ...errors import SemiHVError
from ..release import Release
from ..schema import Fact
from ..sharegpt import Malformed, read_row
from ..tables import DiskTable
from .biomed_vital import conversation_pair, figure_texts
from .modality_words import domain_facts
from .sharegpt_source import Row, ShareGptSource, article_of, conversation_text, joined_rows, task_of, writers

_LISTS = (
    "llava_med_alignment_500k.json",
    "llava_med_instruct_10k.json",
    "llava_med_instruct_60k.json",
    "llava_med_instruct_60k_inline_mention.json",
)
_CAPTIONS, _URLS = "llava_med_instruct_fig_captions.json", "llava_med_image_urls.jsonl"
_DOMAINS = ("chest_xray", "mri", "histology", "gross", "ct_scan")


class LlavaMed(ShareGptSource):
    """Rows {id, image, conversations | conversatons, domain?}, with the captions of the instruction figures.

    The lists may lie in the folder or, as in the repository, in `alignment/` and `instruct/`, also under `data/`.
    Images are looked for under `images/` by the row's name, in zip archives, and under `pmc_articles/` where the
    download script unpacks articles.

    Args:
        root (`str` or `pathlib.Path`): the folder.
        lists (`Sequence[str]`, *optional*): which lists to read, by file name; all that are there by default.
        held_out (`float`, *optional*, defaults to 0.0): the share of articles that go to the test split.
        seed (`int`, *optional*, defaults to 0): chooses those articles.

    Raises:
        `SemiHVError`: the folder holds none of the lists, or not one that is asked for.
    """

    name: ClassVar[str] = "llava_med"
    layout: ClassVar[tuple[tuple[str, str], ...]] = (
        (" | ".join(f"{folder}{file}" for file in _LISTS for folder in ("", "**/")), "one list of rows or several"),
    )

    def __init__(self, root: str | Path, *, lists: Sequence[str] | None = None, held_out: float = 0.0, seed: int = 0):
        super().__init__(root, held_out=held_out, seed=seed)
        there = {file: found for file in _LISTS if (found := self._find(file))}
        wanted = list(there) if lists is None else [lists] if isinstance(lists, str) else list(lists)
        for file in wanted:
            if file not in there:
                raise SemiHVError(f"There is no list {file!r}.", f"Found: {', '.join(there)}.")
        self.lists = [there[file] for file in wanted]
        self._captions: DiskTable | None = None
        self._paths: DiskTable | None = None

    def _find(self, file: str) -> str | None:
        return self.release.first(file) or self.release.first(f"**/{file}")

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_captions": None, "_paths": None}  # open tables do not travel

    def files(self) -> list[str]:
        """The lists that are read."""
        return self.lists

    def metadata(self) -> list[str]:
        """The lists, the captions and the image addresses."""
        others = [self._find(file) for file in (_CAPTIONS, _URLS, "image_urls.jsonl")]
        return sorted({*self.lists, *filter(None, others)})

    def prepare(self) -> None:
        """Reads captions and addresses into tables on disk, by pair id."""
        captions, urls = self._find(_CAPTIONS), self._find(_URLS) or self._find("image_urls.jsonl")
        by_domain = captions and _opens_with(self.release, captions, "{")
        paths = tuple(f"{domain}.item" for domain in _DOMAINS) if by_domain else ("item",)
        self._captions = DiskTable(
            (str(row["pair_id"]), row)
            for row in (joined_rows(self.release, captions, paths) if captions else ())
            if row.get("pair_id")
        )
        self._paths = DiskTable(
            (str(row["pair_id"]), str(row["image_file_path"]))
            for row in (joined_rows(self.release, urls) if urls else ())
            if row.get("pair_id") and row.get("image_file_path")
        )

    def finish(self) -> None:
        """Deletes the tables."""
        for table in (self._captions, self._paths):
            if table is not None:
                table.close()
        self._captions = self._paths = None

    def understand(self, file: str, place: str, row: Any) -> Row | Malformed:
        """One conversation about one figure."""
        conversation = read_row(row)
        if isinstance(conversation, Malformed):
            return conversation
        is_alignment = "alignment" in Path(file).name
        pair = str(row.get("pair_id") or "").strip() or conversation_pair(conversation.images)
        figure = self._captions.get(pair) or {} if pair else {}
        article = article_of(pair)
        facts = domain_facts(row.get("domain") or figure.get("domain"), file if row.get("domain") else _CAPTIONS)
        facts += [Fact("pair_id", pair, f"{file} key image")] if pair else []
        facts += [Fact("pmid", article, f"{file} key image")] if article else []
        if is_alignment:
            wrote = writers(conversation, "rule", "human")
            text = conversation_text(conversation, "caption", wrote)
        else:
            wrote = writers(conversation, "machine", "machine")
            text = conversation_text(conversation, task_of(conversation), wrote, model="gpt-4")
        unpacked = self._paths.get(pair) if pair else None
        images = [
            [f"images/{name}", name, *([f"pmc_articles/{unpacked}"] if unpacked else [])]
            for name in conversation.images
        ]
        group = f"pmid {article}" if article else f"{file} {pair or self.place_of(place, row)}"
        return Row(images, [text, *figure_texts({**figure, **row})], group, facts)


def _opens_with(release: Release, file: str, character: str) -> bool:
    with release.open_text(file) as text:
        return text.read(4096).lstrip()[:1] == character
