"""The one exception that the command line turns into a single clear line."""


class SemiHVError(Exception):
    """A failure that the user can act on.

    Args:
        what (`str`): what is wrong, in one line, naming the file, key, package or number concerned.
        do (`str`, *optional*): what to do about it, in one line.
    """

    def __init__(self, what: str, do: str | None = None):
        self.what = what
        self.do = do
        super().__init__(what if do is None else f"{what} {do}")


def first_line(error: BaseException) -> str:
    """Shortens an exception to one line that can be kept in a row or a message.

    Args:
        error (`BaseException`): the exception.

    Returns:
        `str`: its type and the first line of its message.
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
