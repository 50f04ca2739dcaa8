"""The one error of everything that reads images."""

from pathlib import Path


class UnreadableImage(Exception):
    """A file that holds no usable image.

    Args:
        path (`str` or `pathlib.Path`): the file.
        reason (`str`): what is wrong with it.
    """

    def __init__(self, path: str | Path, reason: str):
        self.path = str(path)
        self.reason = " ".join(str(reason).split())[:300]
        super().__init__(f"{self.path}: {self.reason}")

    def __reduce__(self):
        return type(self), (self.path, self.reason)  # it comes back from worker processes
