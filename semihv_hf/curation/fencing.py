"""Texts of strangers inside a prompt: between fence lines that they cannot contain, and without control tokens.

A caption may say "ignore the above and write ...". It stays what it is, material, if it cannot leave its place: the
fence is derived from the texts themselves, so no text can hold it, and the same texts always give the same fence, so
that a reply can be found in a cache.
"""

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache

# What a chat template reads as the end of one turn or the start of another, whatever stands around it, if the server
# tokenizes messages with special tokens: ChatML and Llama 3, Gemma, Llama 2 and Mistral, BERT's and T5's own.
_CONTROL = re.compile(
    r"<(?=\s*[|｜])|(?<=[|｜])(?=\s*>)|"
    r"<(?=/?(?:s|bos|eos|pad|unk|image|video|audio|img|(?:start|end)_of_(?:turn|image)|think|tool_call)>)|"
    r"<(?=<\s*/?\s*SYS\s*>>)|\[(?=/?\s*(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|IMG)\s*\])",
    re.IGNORECASE,
)
# Characters that nobody sees: they can hide an instruction, or break a word that a filter looks for.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\U000e0000-\U000e007f]"
)
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")


# Each request of a case shows the same texts, and the fence is looked for in them before.
@lru_cache(maxsize=256)
def inert(text: str) -> str:
    """A text that no tokenizer takes for anything but text.

    Args:
        text (`str`): any text.

    Returns:
        `str`: the same words: a blank inside each control token, no invisible characters, no run of empty lines.
    """
    plain = _UNSEEN.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    plain = plain.encode("utf-8", "replace").decode("utf-8")
    return _BLANK_LINES.sub("\n\n", _CONTROL.sub(lambda found: found[0] + " ", plain)).strip()


def fence_for(texts: Iterable[str]) -> str:
    """Makes a fence line that none of the texts contains.

    Args:
        texts (`Iterable[str]`): everything that will stand between fence lines.

    Returns:
        `str`: the line; it depends on the texts and their order only.
    """
    texts = list(texts)
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    while any(digest[:20] in text for text in texts):
        digest = hashlib.sha256(digest.encode()).hexdigest()
    return f"~~~~~ {digest[:20]} ~~~~~"
