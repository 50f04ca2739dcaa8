"""What a server or a client says, made fit for a log: one line, and nothing in it that could be a key."""

import re
from collections.abc import Iterable

_HIDDEN = "***"
_PATTERNS = (
    # user and password in an address
    (re.compile(r"(?<=://)[^/\s@]+@"), f"{_HIDDEN}@"),
    # a header, however it was quoted
    (re.compile(r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?)(?:(?:bearer|basic)\s+)?[^\s'\",}]+"), rf"\1{_HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=*-]{6,}"), rf"\1 {_HIDDEN}"),
    # a named secret, in a query, in JSON or in a sentence such as OpenAI's "Incorrect API key provided: ..."
    (
        re.compile(
            r"(?i)((?:api[-_ ]?key|access[-_ ]?token|client[-_ ]?secret|password|signature|[?&](?:key|token|sig|code))"
            r"(?:\s+provided)?['\"]?\s*[:=]\s*['\"]?)[^\s'\"&,}]+"
        ),
        rf"\1{_HIDDEN}",
    ),
    # the usual prefixes of keys
    (re.compile(r"\b(?:sk|pk|rk|gsk|hf|ghp|xai|nvapi|AIza)[-_]?[\w*-]*[\w*]{8,}"), _HIDDEN),
)


def redact(text: object, secrets: Iterable[str | None] = (), *, most: int = 300) -> str:
    """Shortens a text to one line without keys.

    Args:
        text (`object`): an exception or a text.
        secrets (`Iterable[str]`, *optional*): texts that must not be in the result, whatever they look like.
        most (`int`, *optional*, defaults to 300): most characters of the result.

    Returns:
        `str`: the line; `***` stands for what was taken out.
    """
    line = " ".join(str(text).split())
    for secret in secrets:
        if secret and len(secret) > 3:
            line = line.replace(secret, _HIDDEN)
    for pattern, replacement in _PATTERNS:
        line = pattern.sub(replacement, line)
    return line if len(line) <= most else f"{line[: most - 1]}…"
