"""Which failures end a build, and how the others are written down."""

import errno
import re
from pathlib import Path

from ...errors import SemiHVError, first_line
from ..sources.base import Source

# A setting that the user must mend, and what is missing from the installation, concern every row, not one.
FATAL = (SemiHVError, ImportError, MemoryError)
_FATAL_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_ABSOLUTE = re.compile(r"(?<![\w.:/])(?:/[^\s/'\":;,<>]+)+/([^\s/'\":;,<>]+)")
_LONGEST = 300


def is_fatal(error: BaseException) -> bool:
    """Whether a failure concerns the machine or the set-up, so that no row is to blame.

    Args:
        error (`BaseException`): what was raised while one thing was read.

    Returns:
        `bool`: `True` where the build must stop.
    """
    return isinstance(error, FATAL) or (isinstance(error, OSError) and error.errno in _FATAL_NUMBERS)


def describe(error: BaseException, source: Source) -> str:
    """A failure in one line that names no folder of this machine.

    Args:
        error (`BaseException`): the failure.
        source ([`Source`]): the release; files in it are named relative to it.

    Returns:
        `str`: its type and the first line of its message.
    """
    text = first_line(error)
    for root in {str(source.release.root), str(source.release.real_root)}:
        text = text.replace(root + "/", "").replace(root, source.name)
    text = _ABSOLUTE.sub(r"\1", text.replace(str(Path.home()) + "/", "~/"))
    return text[:_LONGEST]
