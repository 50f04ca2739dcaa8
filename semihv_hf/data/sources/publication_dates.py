"""Days of publication as releases and web pages write them."""

import re
from datetime import date

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_ISO = re.compile(r"(\d{4})(?:[-/.](\d{1,2})(?:[-/.](\d{1,2}))?)?(?:[t ]\d.*)?")
_NUMBERS = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})")
_DAY_FIRST = re.compile(r"(?:(\d{1,2})(?:st|nd|rd|th)?\.? )?([a-z]{3})[a-z]*\.?,? (\d{4})")
_MONTH_FIRST = re.compile(r"([a-z]{3})[a-z]*\.? (\d{1,2})(?:st|nd|rd|th)?,? (\d{4})")


def earliest_day(text: str) -> date | None:
    """The earliest day that a text may mean.

    What is not said is taken at its earliest, and `03/07/2015`, which is July in Europe and March in America, as the
    earlier of both, because an early day is what a rule against early days must not miss.

    Args:
        text (`str`): for example `"2015-07-06"`, `"06.07.2015"`, `"6 July 2015"`, `"July 2015"` or `"2015"`.

    Returns:
        `datetime.date` or `None`: `None` where the text names no day that exists.
    """
    plain = " ".join(text.lower().replace("published", " ").replace("on ", " ").split()).strip(" :")
    days = [_day(*parts) for parts in _readings(plain)]
    found = [day for day in days if day is not None]
    return min(found) if found else None


def _readings(plain: str) -> list[tuple[str, str | int, str]]:
    if match := _ISO.fullmatch(plain):
        return [(match[1], match[2] or "1", match[3] or "1")]
    if match := _NUMBERS.fullmatch(plain):
        european = (match[4], match[3], match[1])
        # Nobody writes the month first with full stops.
        return [european] if match[2] == "." else [european, (match[4], match[1], match[3])]
    if (match := _DAY_FIRST.fullmatch(plain)) and match[2] in _MONTHS:
        return [(match[3], _MONTHS.index(match[2]) + 1, match[1] or "1")]
    if (match := _MONTH_FIRST.fullmatch(plain)) and match[1] in _MONTHS:
        return [(match[3], _MONTHS.index(match[1]) + 1, match[2])]
    return []


def _day(year: str, month: str | int, day: str) -> date | None:
    try:
        return date(int(year), int(month), int(day))
    except ValueError:  # 31 February, or a month of the other reading
        return None
