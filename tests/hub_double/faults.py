"""Faults on purpose: which requests fail, and how. The same seed gives the same faults for the same order."""

import random
from dataclasses import dataclass, field

KINDS = ("429", "500", "503", "disconnect", "lost reply")


@dataclass
class Faults:
    """What goes wrong.

    Args:
        share (`float`, *optional*, defaults to 0.0): how many of the requests fail.
        seed (`int`, *optional*, defaults to 0): where the draw begins.
        kinds (`tuple[str, ...]`, *optional*):
            what may happen, of `KINDS`. `"disconnect"` hangs up before anything is done, `"lost reply"` after it.
        retry_after (`int`, *optional*, defaults to 0): the seconds that a 429 asks to wait.
        only (`str`, *optional*): a text that the path of a failing request holds.
        after (`int`, *optional*, defaults to 0): how many requests pass first.
        most (`int`, *optional*): after so many faults there are no more.
    """

    share: float = 0.0
    seed: int = 0
    kinds: tuple[str, ...] = KINDS
    retry_after: int = 0
    only: str = ""
    after: int = 0
    most: int | None = None
    seen: int = field(default=0, init=False)
    done: int = field(default=0, init=False)

    def draw(self, path: str) -> str | None:
        """What goes wrong with the next request; `None` for nothing."""
        if self.only not in path:
            return None
        self.seen += 1
        drawn = random.Random(f"{self.seed}/{self.seen}")
        if self.seen <= self.after or self.done == self.most or drawn.random() >= self.share:
            return None
        self.done += 1
        return drawn.choice(self.kinds)
