"""Telling languages apart well enough to refuse a text in the wrong one; it is not language identification."""

import re

# The commonest function words of the languages that upstream texts are in. What several of them share decides nothing.
_WORDS = {
    name: frozenset(words.split())
    for name, words in {
        "en": "the of and is are was were in with to there this that which from by on at as it be has an or "
        "not can shows what where how does do for its these those",
        "es": "el la los las de del y en con se que es un una por para no al hay como su sin está son lo más "
        "sobre presenta qué cuál muestra imagen observa derecho izquierdo",
        "fr": "le la les des du de et est une un dans avec au aux pour par sur pas il elle ce cette qui que "
        "sont sans en ou plus droit gauche",
        "de": "der die das und ist ein eine mit im in den dem des von zu nicht auf es sich sind bei als auch "
        "wird zeigt oder keine links rechts",
        "it": "il lo la gli le di del della e è un una con in che per non si sono nel nella dei delle da al "
        "destra sinistra",
        "pt": "o a os as de do da dos das e em com um uma que é não se por para no na ao são como sem mais "
        "direita esquerda",
    }.items()
}
_SCRIPTS = {
    "zh": re.compile("[\u4e00-\u9fff]"),
    "ja": re.compile("[\u3040-\u30ff]"),
    "ko": re.compile("[\uac00-\ud7af]"),
    "ru": re.compile("[\u0400-\u04ff]"),
    "ar": re.compile("[\u0600-\u06ff]"),
}
_LATIN = re.compile("[A-Za-z\u00c0-\u024f]")
_WORD = re.compile(r"[^\W\d_]+")
LANGUAGES = {
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "de": "German",
    "it": "Italian",
    "pt": "Portuguese",
    "zh": "Chinese",
    "ja": "Japanese",
    "ko": "Korean",
    "ru": "Russian",
    "ar": "Arabic",
}
# Below this many words a text of Latin letters is a name or a phrase, which may be the same in any of them.
_FEWEST = 6


def language_problem(text: str, wanted: str) -> str:
    """Why a text is not in the language that was asked for.

    Args:
        text (`str`): the text.
        wanted (`str`): one of `LANGUAGES`.

    Returns:
        `str`: a reason in one line; `""` where nothing speaks against it. A Latin-letter text is judged by function
        words, from six words on, and only where another language has at least three of them and twice as many.
    """
    # The letters of ASCII are Latin ones.
    if (wanted in _SCRIPTS or not text.isascii()) and (problem := _script_problem(text, wanted)):
        return problem
    words = [word.lower() for word in _WORD.findall(text)]
    if wanted not in _WORDS or len(words) < _FEWEST:
        return ""
    counts = {name: sum(map(_WORDS[name].__contains__, words)) for name in _WORDS}
    best = max(counts, key=lambda name: (counts[name], name == wanted))
    if best != wanted and counts[best] >= 3 and counts[best] >= 2 * counts[wanted]:
        return f"it reads as {LANGUAGES[best]}"
    return ""


def _script_problem(text: str, wanted: str) -> str:
    letters = {name: len(pattern.findall(text)) for name, pattern in _SCRIPTS.items()}
    latin = len(_LATIN.findall(text))
    total = latin + sum(letters.values())
    own = letters.get(wanted, latin) + (letters["zh"] if wanted == "ja" else 0)
    if total and own < 0.5 * total and total - own >= 4:
        other = max((*letters.items(), ("Latin", latin)), key=lambda item: item[1])[0]
        return f"most letters are {LANGUAGES.get(other, other)}"
    return ""
