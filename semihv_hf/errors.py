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
