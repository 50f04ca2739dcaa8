"""How many calls may be open at once: as many as the server bears.

Additive increase and multiplicative decrease, as in TCP congestion avoidance (Chiu and Jain 1989; RFC 5681): every
full round of successes adds one call, a sign of overload halves their number.
"""

import asyncio
from collections import deque


class AdaptiveLimit:
    """A semaphore whose size follows the server, with a pause that holds for everybody.

    It belongs to one running event loop at a time.

    Args:
        most (`int`): most calls at the same time, and how many it begins with.
        factor (`float`, *optional*, defaults to 0.5): what remains of the limit after a sign of overload.
    """

    def __init__(self, most: int, factor: float = 0.5):
        self.most = most
        self.limit = float(most)
        self.active = 0
        self._factor = factor
        self._round = 0
        self._paused_until = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._waiting: deque[asyncio.Future] = deque()

    async def acquire(self) -> int:
        """Waits for a free slot.

        Returns:
            `int`: the round in which the call starts; see [`overloaded`].
        """
        loop = asyncio.get_running_loop()
        if self._free(loop) and not self._waiting:
            self.active += 1
            return self._round
        turn = loop.create_future()
        self._waiting.append(turn)
        self._wake()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the slot was handed over in the same moment
                self.release()
            raise
        return self._round

    def release(self) -> None:
        """Gives the slot back; the next in the queue has it at once."""
        self.active -= 1
        self._wake()

    def succeeded(self) -> None:
        """A call came back well: the limit grows by one a full round."""
        self.limit = min(float(self.most), self.limit + 1 / self.limit)
        self._wake()

    def overloaded(self, started: int) -> None:
        """A call was turned away or timed out: the limit shrinks, once for all calls that were open together.

        Args:
            started (`int`): the round in which the call started, from [`acquire`].
        """
        if started == self._round:
            self._round += 1
            self.limit = max(1.0, self.limit * self._factor)

    def pause(self, seconds: float) -> None:
        """Lets no call start for a while; those that are open go on.

        Args:
            seconds (`float`): how long; a longer pause that is already on stays.
        """
        loop = asyncio.get_running_loop()
        self._paused_until = max(self._paused_until, loop.time() + seconds)

    def reset(self) -> None:
        """Forgets who is waiting, for use in another event loop; what was learned of the server stays."""
        self.active, self._paused_until, self._alarm = 0, 0.0, None
        self._waiting.clear()

    def _free(self, loop: asyncio.AbstractEventLoop) -> bool:
        return self.active < int(self.limit) and loop.time() >= self._paused_until

    def _wake(self) -> None:
        if not self._waiting:
            return
        loop = self._waiting[0].get_loop()
        while self._waiting and self._free(loop):
            turn = self._waiting.popleft()
            if not turn.done():
                self.active += 1
                turn.set_result(None)
        if self._waiting and self._alarm is None and loop.time() < self._paused_until:
            self._alarm = loop.call_at(self._paused_until, self._after_pause)

    def _after_pause(self) -> None:
        self._alarm = None
        self._wake()
