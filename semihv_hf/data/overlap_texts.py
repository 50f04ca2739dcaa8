"""Texts of a benchmark that stand in training rows: runs of words that both have, as in common decontamination.

Texts are brought to one Unicode form and lower case, and cut into words; punctuation does not count. Of a text of
thirteen words or more every run of thirteen is looked for; of a text of eight to twelve words, the whole. Shorter
texts ("Is there a pneumothorax?") cannot be told from what anybody would write, and are counted as not checked. Runs
that many questions of the benchmark share are its turns of phrase and do not count either.

The n-grams of the benchmark are held as 64-bit hashes; training rows stream past them.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .dataset_rows import RowFile, column_batches

WORDS = 13
MIN_WORDS = 8
MAX_SHARING = 10
TEXT_COLUMNS = ("id", "messages", "texts", "question", "options", "answer", "answer_type")
_ROWS_AT_ONCE = 512
_WORD = re.compile(r"\w+")
# Odd, fixed, and without a pattern: one factor for each place in a run.
_FACTORS = np.frombuffer(hashlib.shake_256(b"semihv n-gram factors").digest(8 * 64), np.uint64) | np.uint64(1)


class TextMatch(NamedTuple):
    """A row that repeats runs of words of a benchmark's item.

    Args:
        id (`str`): the row.
        item (`int`): the number of the item.
        share (`float`): how many of the item's runs the row has, above 0 and at most 1.
        words (`str`): the first of these runs in the row, normalised.
    """

    id: str
    item: int
    share: float
    words: str


def words_of(text: str) -> list[str]:
    """Cuts a text into normalised words.

    Args:
        text (`str`): the text.

    Returns:
        `list[str]`: lower-case words without punctuation.
    """
    return _WORD.findall((text if text.isascii() else unicodedata.normalize("NFKC", text)).casefold())


def texts_of(row: Mapping[str, Any]) -> list[str]:
    """The texts of a row of any type: messages of a record, texts of a case, question and answers of a question.

    Args:
        row (`Mapping[str, Any]`): the row, or some of its columns.

    Returns:
        `list[str]`: one entry a text; runs of words do not go from one into the next.
    """
    texts = [
        part["text"]
        for message in row.get("messages") or ()
        for part in message["content"]
        if part["type"] == "text" and part["text"]
    ]
    texts += [text["text"] for text in row.get("texts") or ()]
    texts += [row["question"]] if row.get("question") else []
    options = list(row.get("options") or ())
    texts += options or ([row["answer"]] if row.get("answer") else [])
    return [text for text in texts if text]


class TextIndex:
    """The runs of words of benchmarks.

    Args:
        words (`int`, *optional*, defaults to 13): the length of a run.
        min_words (`int`, *optional*, defaults to 8): the shortest text that is looked for as a whole.
        max_sharing (`int`, *optional*, defaults to 10): a run that more items than this have does not count.
    """

    def __init__(self, words: int = WORDS, min_words: int = MIN_WORDS, max_sharing: int = MAX_SHARING):
        if not 1 <= min_words <= words <= len(_FACTORS):
            raise ValueError(f"min_words {min_words} and words {words} do not fit")
        self.words = words
        self.min_words = min_words
        self.max_sharing = max_sharing
        self.items: list[tuple[str, str, str]] = []
        """Benchmark, split and id of each item."""
        self.counts: Counter[str] = Counter()
        self._grams: dict[int, list[np.ndarray]] = {}
        self._owners: dict[int, list[np.ndarray]] = {}

    def add_item(self, benchmark: str, split: str, identity: str, texts: Iterable[str]) -> None:
        """Adds an item of a benchmark.

        Args:
            benchmark (`str`): the benchmark.
            split (`str`): its split.
            identity (`str`): the item's id.
            texts (`Iterable[str]`): its texts.
        """
        number = len(self.items)
        self.items.append((benchmark, split, identity))
        self.counts["items"] += 1
        found = 0
        for text in texts:
            hashes = _word_hashes(words_of(text))
            if len(hashes) < self.min_words:
                continue
            length = min(self.words, len(hashes))
            grams = _runs(hashes, length)
            self._grams.setdefault(length, []).append(grams)
            self._owners.setdefault(length, []).append(np.full(len(grams), number, np.int32))
            found += 1
        self.counts["items_too_short"] += not found

    def freeze(self) -> None:
        """Sorts what was added; afterwards rows can be looked up."""
        self._tables: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        self._sizes = np.zeros(len(self.items), np.int64)
        for length in sorted(self._grams):
            grams, owners = np.concatenate(self._grams[length]), np.concatenate(self._owners[length])
            order = np.lexsort((owners, grams))
            grams, owners = grams[order], owners[order]
            # An item that has a run twice has it once.
            new = np.r_[True, (grams[1:] != grams[:-1]) | (owners[1:] != owners[:-1])]
            grams, owners = grams[new], owners[new]
            _, place, count = np.unique(grams, return_inverse=True, return_counts=True)
            own = count[place] <= self.max_sharing
            self.counts["runs"] += int((count <= self.max_sharing).sum())
            self.counts["runs_shared_by_many"] += int((count > self.max_sharing).sum())
            np.add.at(self._sizes, owners[own], 1)
            self._tables[length] = (grams[own], owners[own], _sieve(grams[own]))
        self._grams, self._owners = {}, {}

    def matches_in(self, file: RowFile) -> Iterator[TextMatch]:
        """Looks the rows of a file up.

        Args:
            file ([`RowFile`]): the file.

        Yields:
            [`TextMatch`]: one for each row and each item of which it repeats a run.
        """
        for rows in column_batches(file, TEXT_COLUMNS, _ROWS_AT_ONCE):
            yield from self.matches((row["id"], texts_of(row)) for row in rows)

    def matches(self, rows: Iterable[tuple[str, list[str]]]) -> Iterator[TextMatch]:
        """Looks rows up; they are held together, so give them in pieces.

        Args:
            rows (`Iterable[tuple[str, list[str]]]`): ids and texts.

        Yields:
            [`TextMatch`]: see [`matches_in`].
        """
        ids: list[str] = []
        texts: list[list[str]] = []
        owners: list[int] = []
        for identity, entries in rows:
            ids.append(identity)
            self.counts["rows"] += 1
            for entry in entries:
                words = words_of(entry)
                if len(words) >= self.min_words:
                    texts.append(words)
                    owners.append(len(ids) - 1)
        if not texts:
            return
        lengths = np.array([len(words) for words in texts])
        hashes = _word_hashes([word for words in texts for word in words])
        # Which text a word belongs to: a run whose ends are of two texts is none.
        text_of = np.repeat(np.arange(len(texts)), lengths)
        starts = np.cumsum(lengths) - lengths
        found: dict[tuple[int, int], tuple[set[tuple[int, int]], tuple[int, int, int]]] = {}
        for length, (grams, items, sieve) in self._tables.items():
            if len(hashes) < length:
                continue
            runs = _runs(hashes, length)
            likely = sieve[runs >> np.uint64(65 - len(sieve).bit_length())]
            likely &= text_of[: len(runs)] == text_of[length - 1 :]
            positions = np.flatnonzero(likely)
            places = np.searchsorted(grams, runs[positions], "left")
            for position, place in zip(positions.tolist(), places.tolist(), strict=True):
                text = int(text_of[position])
                first = int(position - starts[text])
                while place < len(grams) and grams[place] == runs[position]:
                    key = (owners[text], int(items[place]))
                    seen, where = found.setdefault(key, (set(), (text, first, length)))
                    seen.add((length, int(runs[position])))
                    place += 1
        for (row, item), (seen, (text, first, length)) in found.items():
            share = len(seen) / int(self._sizes[item])
            yield TextMatch(ids[row], item, share, " ".join(texts[text][first : first + length]))


def _sieve(grams: np.ndarray) -> np.ndarray:
    """For each value of the hash's first bits, whether a run has it: most runs of a row end here, at the cost of one
    look instead of a search."""
    bits = min(max(len(grams).bit_length() + 4, 10), 26)
    sieve = np.zeros(1 << bits, bool)
    sieve[grams >> np.uint64(64 - bits)] = True
    return sieve


@lru_cache(maxsize=1 << 18)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def _word_hashes(words: list[str]) -> np.ndarray:
    return np.fromiter(map(_word_hash, words), np.uint64, len(words))


def _runs(hashes: np.ndarray, length: int) -> np.ndarray:
    """A hash of each run of so many words: the sum of the words' hashes, each times the factor of its place."""
    count = len(hashes) - length + 1
    total = np.zeros(count, np.uint64)
    for place in range(length):
        total += hashes[place : place + count] * _FACTORS[place]
    # The length is part of the hash: runs of different length are kept in different tables, but reports may mix them.
    return total ^ np.uint64(length)
