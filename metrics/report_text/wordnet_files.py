"""Synonyms out of WordNet's database files (wndb(5WN)), wherever they lie.

NLTK's own reader refuses folders outside its data path, and files that some distributions of the database leave out.
METEOR asks for one thing only: the lemmas of the synsets that a word, or its base form, is in.
"""

import os
from collections import defaultdict

_PARTS = ("noun", "verb", "adj", "adv")
# morphy(7WN): endings and what replaces them.
_ENDINGS = {
    "noun": "s: ses:s ves:f xes:x zes:z ches:ch shes:sh men:man ies:y",
    "verb": "s: ies:y es:e es: ed:e ed: ing:e ing:",
    "adj": "er: est: er:e est:e",
    "adv": "",
}


class Lemma:
    """A word of a synset.

    Args:
        name (`str`): the word; parts of a phrase are joined by underscores.
    """

    def __init__(self, name):
        self._name = name

    def name(self):
        """The word."""
        return self._name


class Synset:
    """Words of one meaning.

    Args:
        names (`list[str]`): the words.
    """

    def __init__(self, names):
        self._lemmas = [Lemma(name) for name in names]

    def lemmas(self):
        """The words, as objects with `name()`."""
        return self._lemmas


class WordNetFiles:
    """The part of NLTK's WordNet interface that METEOR uses.

    Args:
        folder (`str`): where `data.noun`, `index.noun`, ... lie; `noun.exc`, ... are used where they are.

    Raises:
        ValueError: a file is missing.
    """

    def __init__(self, folder):
        needed = [f"{kind}.{part}" for part in _PARTS for kind in ("data", "index")]
        missing = [name for name in needed if not os.path.isfile(os.path.join(folder, name))]
        if missing:
            raise ValueError(f"The WordNet folder {folder!r} lacks {', '.join(missing)}.")
        self._folder = folder
        self._offsets = {part: self._read_index(part) for part in _PARTS}
        self._exceptions = {part: self._read_exceptions(part) for part in _PARTS}
        self._known = {}

    def synsets(self, word):
        """Finds the meanings of a word and of its base forms.

        Args:
            word (`str`): one word.

        Returns:
            `list[Synset]`: its synsets, each once.
        """
        word = word.lower()
        if word not in self._known:
            places = {
                (part, offset): None
                for part in _PARTS
                for form in self._base_forms(word, part)
                for offset in self._offsets[part][form]
            }
            self._known[word] = [Synset(self._words_at(*place)) for place in places]
        return self._known[word]

    def _base_forms(self, word, part):
        known, irregular = self._offsets[part], self._exceptions[part].get(word)
        if irregular:
            return [form for form in dict.fromkeys([word, *irregular]) if form in known]
        pairs = [pair.split(":") for pair in _ENDINGS[part].split()]
        forms = [word, *(word[: -len(old)] + new for old, new in pairs if word.endswith(old))]
        return [form for form in dict.fromkeys(forms) if form in known]

    def _read_index(self, part):
        offsets = defaultdict(list)
        with open(os.path.join(self._folder, f"index.{part}"), encoding="utf-8") as handle:
            for line in handle:
                if not line.startswith(" "):
                    fields = line.split()
                    offsets[fields[0]] = [int(offset) for offset in fields[-int(fields[2]) :]]
        return dict(offsets)

    def _read_exceptions(self, part):
        path = os.path.join(self._folder, f"{part}.exc")
        if not os.path.isfile(path):
            return {}
        with open(path, encoding="utf-8") as handle:
            return {fields[0]: fields[1:] for fields in map(str.split, handle) if fields}

    def _words_at(self, part, offset):
        with open(os.path.join(self._folder, f"data.{part}"), "rb") as handle:
            handle.seek(offset)
            fields = handle.readline().decode("utf-8").split()
        if int(fields[0]) != offset:
            raise ValueError(f"data.{part} of the WordNet folder {self._folder!r} does not fit its index.{part}.")
        # Fields: offset, file number, type, number of words (hexadecimal), then word and sense number in turn.
        names = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
        return [name.split("(")[0] for name in names]
