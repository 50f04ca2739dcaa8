"""Figures of PubMed Central's open-access articles with their captions, and PMC-Instruct's conversations about them.

This is the path of the SemiHVision authors: every figure of every `.nxml`, captions of fewer than 20 words dropped,
what is left asked about by a model. Their conversations were not published; who has them puts them beside the
articles. Instead of articles, the lists and sub-figures of `axiong/pmc_oa` are taken, too.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..licences import source_licence
from ..messages import message
from ..schema import Case, Fact, Provenance, Record, Text, case_id
from ..tables import DiskTable, json_rows
from ..zip_index import UnsafeFile
from .article_files import ArticleFolder, ArticlePackage, is_there
from .base import Item, Skipped, Source
from .choices import one_line
from .conversations import DESCRIBE_IMAGE, DESCRIBE_IMAGES, PROMPT_VERSION, record_of, wording
from .jats import Article, Figure, UnusableArticle, parse_article
from .places import first_place
from .reading import read_picture

MIN_WORDS = 20
UNCLEAR = "unclear"
LISTS = {"train.jsonl": "train", "valid.jsonl": "validation", "test.jsonl": "test"}
CONVERSATIONS = "pmc_instruct"
_SUBFIGURES = "caption_T060_filtered_top4_sep_v0_subfigures"  # what the archive of axiong/pmc_oa unpacks to
_FOLDERS = ("images", "", _SUBFIGURES, f"images/{_SUBFIGURES}")
_ARTICLES, _PACKAGES = "**/*.[nN][xX][mM][lL]", "**/*.[tT][aA][rR].[gG][zZ]"
_PMCID = re.compile(r"PMC\d+", re.IGNORECASE)
_ASKS, _ANSWERS = ("user", "human"), ("assistant", "gpt")


class PmcInstruct(Source):
    """PMC figures in one of three layouts.

    Articles of the open-access subset, as folders (`<PMC>/<article>.nxml` with its pictures) or as `.tar.gz`; or the
    lists `train.jsonl`, `valid.jsonl`, `test.jsonl` of `axiong/pmc_oa` ({image, caption, pmcid, url_name}) with
    `images.zip`. Where lists are there, only they are read. With either, conversations of the authors' PMC-Instruct
    may lie in `pmc_instruct/<PMC>/<picture>.json`.

    A figure becomes one case with all its graphics. Its licence is its own where it states one, else the article's.
    It is `"unclear"` where figure or article say something about their rights that names no Creative Commons licence,
    and the registry's where nothing is said.

    Args:
        root (`str` or `pathlib.Path`): the folder of the articles or lists.
        min_words (`int`, *optional*, defaults to 20): captions of fewer words are left out.
        licences (`list[str]`, *optional*): keep only figures whose licence is one of these or a version of one, for
            example `["CC0", "CC-BY"]`, which keeps `CC-BY-4.0` and leaves `CC-BY-NC-4.0` out; all by default.
        held_out (`float`, *optional*, defaults to 0.0): the share of articles for the test split; the lists of
            `axiong/pmc_oa` state theirs.
        seed (`int`, *optional*, defaults to 0): chooses those articles.
    """

    name = "pmc_instruct"
    layout = (
        (
            "train.jsonl | valid.jsonl | test.jsonl | **/*.nxml | **/*.NXML | **/*.tar.gz",
            "articles (.nxml in folders, or .tar.gz), or the lists of axiong/pmc_oa",
        ),
    )

    def __init__(
        self,
        root: str | Path,
        *,
        min_words: int = MIN_WORDS,
        licences: Sequence[str] | None = None,
        held_out: float = 0.0,
        seed: int = 0,
    ):
        super().__init__(root, held_out=held_out, seed=seed)
        self.min_words = min_words
        self.licences = None if licences is None else list(licences)
        self.lists = [name for name in LISTS if self.release.first(name)]

    def items(self) -> Iterator[Item | Skipped]:
        """One item an article, or a row of a list.

        Yields:
            [`Item`] or [`Skipped`]: an article or an image that came before, a row without image or caption, or with
            a short caption.
        """
        with DiskTable() as seen:
            if self.lists:
                for table in self.lists:
                    for number, row in enumerate(json_rows(self.release, table), start=1):
                        yield self._listed(table, number, row, seen)
                return
            for kind, pattern in (("folder", _ARTICLES), ("package", _PACKAGES)):
                for name in self.release.find(pattern):
                    key = _article_key(name)
                    if seen.add(key, name):
                        yield Item(key, self.split_of(None, key), {"kind": kind, "name": name})
                    else:
                        yield Skipped(name, "duplicate row", f"{key} is in {seen.get(key)}, too")

    def read(self, item: Item) -> Iterator[Case | Skipped]:
        """Reads the figures of an article, or a row of a list.

        Args:
            item ([`Item`]): as [`items`] gave it.

        Yields:
            [`Case`] or [`Skipped`]: one for each figure; a figure of which one graphic is missing is left out whole.
        """
        if item.data["kind"] == "row":
            yield from self._read_row(item)
            return
        files = {"folder": ArticleFolder, "package": ArticlePackage}[item.data["kind"]]
        files = files(self.release, item.data["name"])
        try:
            article = parse_article(files.article())
            files.want([link for figure in article.figures for link in figure.graphics])
        except UnusableArticle as error:
            yield Skipped(item.source_id, error.reason, error.detail)
            return
        taken = set()
        for number, figure in enumerate(article.figures, start=1):
            yield from self._read_figure(item, files, article, figure, number, taken)

    def records(self, case: Case) -> Iterator[Record]:
        """A record for the caption, and one for each conversation about a picture of the figure.

        Args:
            case ([`Case`]): a case of this source.

        Yields:
            [`Record`]: of task `"caption"` and `"vqa"`.
        """
        caption = case.text("caption")
        ask = wording(case.id, DESCRIBE_IMAGES if len(case.images) > 1 else DESCRIBE_IMAGE)
        messages = [message("user", ask, len(case.images)), message("assistant", caption.text)]
        wrote = [Provenance("messages[0]", prompt_version=PROMPT_VERSION)]
        yield record_of(case, "caption", messages, ["rule", caption.annotation], provenance=wrote)
        for index, image in enumerate(case.images):
            turns = [text for text in case.texts if text.role in ("question", "answer") and text.image == index]
            if turns:
                messages = [
                    message("user" if turn.role == "question" else "assistant", turn.text, 1 if number == 0 else 0)
                    for number, turn in enumerate(turns)
                ]
                yield record_of(case, "vqa", messages, [turn.annotation for turn in turns], images=[image])

    # --- articles --------------------------------------------------------------------------------------------------

    def _read_figure(
        self,
        item: Item,
        files: ArticleFolder | ArticlePackage,
        article: Article,
        figure: Figure,
        number: int,
        taken: set[str],
    ) -> Iterator[Case | Skipped]:
        name = figure.graphics[0].replace("\\", "/").rpartition("/")[2] if figure.graphics else f"figure {number}"
        source_id = f"{item.source_id}/{name}"
        if source_id in taken:
            yield Skipped(
                f"{source_id} (figure {number})", "duplicate row", "an earlier figure shows the same graphic"
            )
            return
        taken.add(source_id)
        licence = figure.licence or (UNCLEAR if figure.permissions else article.licence)
        licence = licence or (UNCLEAR if article.permissions else "")
        problem = self._excluded(source_id, figure.caption, licence)
        if problem is None and not figure.graphics:
            problem = Skipped(source_id, "missing image", "the figure links no graphic")
        pictures = []
        for link in () if problem else figure.graphics:
            picture = files.picture(link, source_id)
            if isinstance(picture, Skipped):
                problem = picture
                break
            pictures.append(picture)
        if problem is not None:
            yield problem
            return
        texts = [Text("caption", figure.caption, "human", article.language)]
        if figure.title:
            texts.append(Text("caption_title", figure.title, "human", article.language))
        for index, link in enumerate(figure.graphics):
            turns = self._conversation(item.source_id, link)
            if isinstance(turns, Skipped):
                yield turns
                continue
            texts += [Text(role, text, "machine", image=index) for role, text in turns]
        facts = _article_facts(article, figure)
        yield self._case(item, source_id, article.pmcid or item.source_id, licence, pictures, facts, texts)

    def _excluded(self, source_id: str, caption: str, licence: str) -> Skipped | None:
        words = len(caption.split())
        if words < self.min_words:
            return Skipped(source_id, "short caption", f"{words} words, fewer than {self.min_words}")
        if self.licences is not None and not any(
            re.fullmatch(rf"{re.escape(wanted)}(-\d\.\d)?", licence, re.IGNORECASE) for wanted in self.licences
        ):
            return Skipped(source_id, "licence", f"{licence or 'none is stated'}")
        return None

    def _case(
        self,
        item: Item,
        source_id: str,
        group: str,
        licence: str,
        pictures: list[bytes],
        facts: list[Fact],
        texts: list[Text],
    ) -> Case:
        return Case(
            id=case_id(self.name, source_id, pictures),
            source=self.name,
            source_id=source_id,
            group=group,
            split=item.split,
            licence=licence or source_licence(self.name).licence,
            images=pictures,
            facts=facts,
            texts=texts,
        )

    # --- the lists of axiong/pmc_oa --------------------------------------------------------------------------------

    def _listed(self, table: str, number: int, row: Any, seen: DiskTable) -> Item | Skipped:
        place = f"{table}/{number}"
        if not isinstance(row, Mapping):
            return Skipped(place, "malformed row", "it is no object")
        image, caption = str(row.get("image") or "").strip(), _caption(row.get("caption"))
        if not image:
            return Skipped(place, "missing image", "image is empty")
        if not seen.add(image, place):
            return Skipped(place, "duplicate row", f"{image} is in {seen.get(image)}, too")
        problem = self._excluded(place, caption, "")
        if problem is not None:
            return problem
        found = _PMCID.search(str(row.get("pmcid") or "")) or _PMCID.match(image)
        pmcid = found[0].upper() if found else ""
        data = {
            "kind": "row",
            "table": table,
            "caption": caption,
            "pmcid": pmcid,
            "url": str(row.get("url_name") or ""),
        }
        return Item(image, LISTS[table], data)

    def _read_row(self, item: Item) -> Iterator[Case | Skipped]:
        data, image = item.data, item.source_id
        picture = read_picture(self.release, first_place(self.release, image, _FOLDERS), image)
        if isinstance(picture, Skipped):
            yield picture
            return
        facts = [
            Fact(name, data[key], f"{data['table']} {column}")
            for name, key, column in (("pmcid", "pmcid", "pmcid"), ("compound_figure", "url", "url_name"))
            if data[key]
        ]
        texts = [Text("caption", data["caption"], "human")]
        turns = self._conversation(data["pmcid"], image)
        if isinstance(turns, Skipped):
            yield turns
        else:
            texts += [Text(role, text, "machine", image=0) for role, text in turns]
        yield self._case(item, image, data["pmcid"] or image, "", [picture], facts, texts)

    # --- the authors' conversations --------------------------------------------------------------------------------

    def _conversation(self, pmcid: str, picture: str) -> list[tuple[str, str]] | Skipped:
        """The turns about a picture, none where no conversation was made, or why they cannot be used."""
        name = PurePosixPath(picture.replace("\\", "/")).name
        for stem in dict.fromkeys((PurePosixPath(name).stem, name)):
            place = f"{CONVERSATIONS}/{pmcid}/{stem}.json"
            if is_there(self.release, place):
                break
        else:
            return []
        try:
            entries = json.loads(self.release.read_bytes(place).decode("utf-8-sig"))
        except UnsafeFile as error:
            return Skipped(place, "unsafe file", f"{place} {error.reason}")
        except ValueError as error:
            return Skipped(place, "malformed row", f"it is no JSON: {error}")
        turns = _turns(entries)
        return Skipped(place, "malformed row", turns) if isinstance(turns, str) else turns


def _turns(entries: Any) -> list[tuple[str, str]] | str:
    """Questions and answers in turn, whatever the two speakers are called; a text says what is wrong."""
    if isinstance(entries, Mapping):
        entries = [entries]
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        return "it is no list of conversations"
    turns: list[tuple[str, str]] = []
    for entry in entries:
        for turn in entry.get("conversations") or []:
            speaker = (turn.get("role") or turn.get("from")) if isinstance(turn, Mapping) else None
            role = "question" if speaker in _ASKS else "answer" if speaker in _ANSWERS else ""
            text = str(turn.get("value") or turn.get("content") or "").replace("<image>", "").strip() if role else ""
            if not text or role != ("answer" if len(turns) % 2 else "question"):
                return f"turn {len(turns) + 1} is empty, or not a question and an answer in turn"
            turns.append((role, text))
    if len(turns) % 2:
        return "the last question has no answer"
    return turns


def _article_facts(article: Article, figure: Figure) -> list[Fact]:
    meta = "nxml article-meta"
    stated = (
        ("pmcid", article.pmcid, f"{meta}/article-id"),
        ("pmid", article.pmid, f"{meta}/article-id"),
        ("doi", article.doi, f"{meta}/article-id"),
        ("published", article.published, f"{meta}/pub-date"),
        ("licence", article.licence, f"{meta}/permissions/license"),
        ("licence_statement", article.permissions, f"{meta}/permissions"),
        ("figure_licence", figure.licence, "nxml fig/permissions/license"),
        ("figure_permissions", figure.permissions, "nxml fig/permissions"),
        ("figure_label", figure.label, "nxml fig/label"),
        ("figure_place", figure.place if figure.place != "body" else "", "nxml element around fig"),
    )
    return [Fact(name, value, source) for name, value, source in stated if value]


def _article_key(name: str) -> str:
    """`PMC13900` for the usual names of folders and archives, else the name without its extension."""
    path = PurePosixPath(name)
    stem = path.name[: -len(".tar.gz")] if path.name.lower().endswith(".tar.gz") else path.stem
    for part in (stem, path.parent.name):
        if _PMCID.fullmatch(part):
            return part.upper()
    return str(path.parent / stem)


def _caption(value: Any) -> str:
    return one_line(html.unescape(value)) if isinstance(value, str) else ""
