"""How much may be spent: an estimate before the first call, and a stop that concurrent calls cannot run past."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semihv_hf.errors import SemiHVError
from semihv_hf.llm.keys import content_key
from semihv_hf.llm.prices import Prices
from semihv_hf.llm.tokens import TokenRule
from semihv_hf.llm.types import Usage

if TYPE_CHECKING:
    from semihv_hf.data.attestations import Attestation
    from semihv_hf.llm.cache import ResponseCache
    from semihv_hf.llm.types import ChatRequest, ServerSettings


@dataclass(frozen=True)
class Estimate:
    """What a run will come to, if the rules are right. It is an estimate, no bound.

    Args:
        requests (`int`): all of them.
        cached (`int`): those that cost nothing, since the cache has their reply or since they are asked twice.
        withheld (`int`): those that the licence gate keeps here.
        calls (`int`): the others.
        input_tokens (`int`): of the calls.
        output_tokens (`int`): of the calls, if each reply is as long as it may be or as is assumed.
        cost_usd (`float` or `None`): of the calls; `None` if no price is known.
        price_source (`str` or `None`): where the price was read.
        images (`int`): in the calls.
    """

    requests: int = 0
    cached: int = 0
    withheld: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    price_source: str | None = None
    images: int = 0

    def report(self) -> dict[str, Any]:
        """The estimate for a dry run.

        Returns:
            `dict`: the fields, and `"estimate": True`.
        """
        return {"estimate": True, **asdict(self)}


@dataclass(frozen=True)
class Reservation:
    """Money that is set aside for a call in flight.

    Args:
        cost_usd (`float`): how much.
        expected_usd (`float`): the bare estimate of it.
        sent_usd (`float`): the part for what is sent.
    """

    cost_usd: float = 0.0
    expected_usd: float = 0.0
    sent_usd: float = 0.0


class Budget:
    """Counts tokens and dollars, and says when to stop. Threads and tasks may share one.

    Before each call its estimated cost is set aside ([`reserve`](#reserve)) and after it the real cost is booked
    ([`settle`](#settle)). A call begins only if what was spent, what is set aside for the calls in flight and its own
    estimate stay within the limit. As soon as a call costs more than its estimate, later ones set aside more by that
    factor. So the limit can be passed by no more than the calls in flight cost above their estimates.

    Args:
        max_cost_usd (`float`, *optional*): the most to spend, above 0; `None` for no limit.
        prices ([`Prices`], `Mapping`, `str` or `pathlib.Path`, *optional*): where prices come from; a table or a file
            as [`Prices`] takes it.
        tokens ([`TokenRule`], *optional*): how tokens are estimated.
    """

    def __init__(
        self,
        max_cost_usd: float | None = None,
        prices: Prices | Mapping[str, Any] | str | Path | None = None,
        *,
        tokens: TokenRule | None = None,
    ):
        number = isinstance(max_cost_usd, (int, float)) and not isinstance(max_cost_usd, bool)
        if max_cost_usd is not None and not (number and 0 < max_cost_usd < float("inf")):
            raise SemiHVError(f"max_cost_usd is {max_cost_usd!r}.", "Give dollars above 0, or leave it out.")
        self.max_cost_usd = max_cost_usd
        self.prices = prices if isinstance(prices, Prices) else Prices(prices)
        self.tokens = tokens or TokenRule()
        self._lock = threading.Lock()
        self._used = Usage(cost_usd=0.0)
        self._saved = Usage(cost_usd=0.0)
        self._reserved = self._unconfirmed = 0.0
        self._factor = 1.0
        self._calls = self._unpriced = self._from_cache = self._stopped = 0
        self._sources: dict[str, str | None] = {}

    def check(self, settings: ServerSettings) -> None:
        """Makes sure, before the first call, that a limit can be kept.

        Args:
            settings ([`ServerSettings`]): the server and the model.

        Raises:
            `SemiHVError`: there is a limit, but no price of the model is known.
        """
        source = self.prices.source(settings)
        with self._lock:
            self._sources[settings.model] = source
        if self.max_cost_usd is not None and source is None:
            raise SemiHVError(
                f"No price is known for model {settings.model!r} at {settings.shown_url}, "
                f"so max_cost_usd {self.max_cost_usd} cannot be kept.",
                f'Give its price, such as {{"{settings.model}": {{"input": 2.5, "output": 10.0}}}} in dollars for a '
                "million tokens, or leave max_cost_usd out.",
            )

    def estimate(
        self,
        requests: Iterable[ChatRequest],
        settings: ServerSettings,
        *,
        cache: ResponseCache | None = None,
        attestation: Attestation | None = None,
        batch: bool = False,
    ) -> Estimate:
        """What a run will come to. Nothing is sent.

        Args:
            requests (`Iterable[ChatRequest]`): what would be asked; an iterator is used up.
            settings ([`ServerSettings`]): the server and the model.
            cache ([`ResponseCache`], *optional*): what stands there costs nothing.
            attestation ([`Attestation`], *optional*): for the licence gate.
            batch (`bool`, *optional*, defaults to `False`): at the prices of the batch API.

        Returns:
            [`Estimate`]: calls, tokens and dollars.
        """
        from semihv_hf.data.licences import may_send

        total = cached = withheld = calls = sent = back = images = 0
        seen: set[bytes] = set()
        for request in requests:
            total += 1
            key = content_key(settings, request)
            if bytes.fromhex(key) in seen or (cache is not None and key in cache):
                cached += 1
            elif not all(
                may_send(name, settings.base_url, attestation=attestation).allowed for name in request.sources
            ):
                withheld += 1
            else:
                seen.add(bytes.fromhex(key))
                tokens = self.tokens.estimate(settings, request)
                calls, sent, back = calls + 1, sent + tokens[0], back + tokens[1]
                images += _count_images(request)
        cost = self.prices.cost(settings, Usage(input_tokens=sent, output_tokens=back), batch=batch)
        return Estimate(total, cached, withheld, calls, sent, back, cost, self.prices.source(settings), images)

    def reserve(self, settings: ServerSettings, request: ChatRequest, *, batch: bool = False) -> Reservation | None:
        """Sets money aside for a call.

        Args:
            settings ([`ServerSettings`]): the server and the model.
            request ([`ChatRequest`]): what will be asked.
            batch (`bool`, *optional*, defaults to `False`): whether it goes through the batch API.

        Returns:
            [`Reservation`] or `None`: to be given to [`settle`](#settle); `None` if the limit does not allow the
            call, which must not be made then.

        Raises:
            `SemiHVError`: there is a limit, but no price is known.
        """
        if self.max_cost_usd is None:
            return Reservation()
        sent, back = self.tokens.estimate(settings, request)
        expected = self.prices.cost(settings, Usage(input_tokens=sent, output_tokens=back), batch=batch)
        if expected is None:
            self.check(settings)
        sent_usd = self.prices.cost(settings, Usage(input_tokens=sent), batch=batch)
        with self._lock:
            amount = expected * self._factor
            if self._spent() + self._reserved + amount > self.max_cost_usd:
                self._stopped += 1
                return None
            self._reserved += amount
        return Reservation(amount, expected, sent_usd)

    def settle(self, reservation: Reservation, usage: Usage | None, *, maybe_billed: bool = False) -> None:
        """Books what a call used, and frees what was set aside for it.

        Args:
            reservation ([`Reservation`]): of the call.
            usage ([`Usage`] or `None`): what the server counted, all attempts together; `None` if it gave no reply.
            maybe_billed (`bool`, *optional*, defaults to `False`): the server may have worked without our hearing of
                it, as after a time-out: what was sent then counts as spent.
        """
        with self._lock:
            self._reserved = max(0.0, self._reserved - reservation.cost_usd)
            if maybe_billed:
                self._unconfirmed += reservation.sent_usd
            if usage is not None:
                self._book(usage)
                if reservation.expected_usd and usage.cost_usd:
                    self._factor = max(self._factor, usage.cost_usd / reservation.expected_usd)

    def hold(self, cost_usd: float) -> Reservation:
        """Sets money aside for calls that are already on their way, as for batches of an interrupted run.

        Args:
            cost_usd (`float`): how much; the limit is not asked.

        Returns:
            [`Reservation`]: to be given to [`settle`](#settle).
        """
        with self._lock:
            self._reserved += cost_usd
        return Reservation(cost_usd)

    def charge(self, usage: Usage | None, *, cached: bool = False, calls: int = 1) -> None:
        """Books calls that nothing was set aside for.

        Args:
            usage ([`Usage`] or `None`): what they used.
            cached (`bool`, *optional*, defaults to `False`): they came from the cache, so they are counted as saved.
            calls (`int`, *optional*, defaults to 1): how many they were.
        """
        with self._lock:
            if not cached:
                self._book(usage or Usage(cost_usd=0.0), calls)
                return
            self._from_cache += 1
            if usage is not None:
                self._saved = self._saved + replace(usage, cost_usd=usage.cost_usd or 0.0)

    def price(self, settings: ServerSettings, usage: Usage, *, batch: bool = False) -> Usage:
        """The same usage with its dollars.

        Args:
            settings ([`ServerSettings`]): the server and the model.
            usage ([`Usage`]): tokens.
            batch (`bool`, *optional*, defaults to `False`): whether it went through the batch API.

        Returns:
            [`Usage`]: with `cost_usd`, `None` if no price is known.
        """
        return replace(usage, cost_usd=self.prices.cost(settings, usage, batch=batch))

    @property
    def spent_usd(self) -> float:
        """Dollars so far, calls that may have been billed included; calls without a known price are left out."""
        with self._lock:
            return self._spent()

    @property
    def exhausted(self) -> bool:
        """Whether the limit is reached. Before that a call may be stopped that is too dear for what is left."""
        with self._lock:
            return self.max_cost_usd is not None and self._spent() >= self.max_cost_usd

    def summary(self) -> dict[str, Any]:
        """What was used, for a manifest.

        Returns:
            `dict`: limit, calls, tokens and dollars, what the cache saved, and where the prices come from. `cost_usd`
            is `None` if any call has no known price.
        """
        with self._lock:
            used = asdict(self._used)
            used["cost_usd"] = None if self._unpriced else self._used.cost_usd
            return {
                "max_cost_usd": self.max_cost_usd,
                "calls": self._calls,
                **used,
                "calls_without_price": self._unpriced,
                "maybe_billed_usd": self._unconfirmed,
                "stopped_by_budget": self._stopped,
                "from_cache": self._from_cache,
                "saved_usd": self._saved.cost_usd,
                "prices": dict(sorted(self._sources.items())),
            }

    def _book(self, usage: Usage, calls: int = 1) -> None:
        self._calls += calls
        if usage.cost_usd is None:
            self._unpriced += calls
        self._used = self._used + replace(usage, cost_usd=usage.cost_usd or 0.0)

    def _spent(self) -> float:
        return (self._used.cost_usd or 0.0) + self._unconfirmed


def _count_images(request: ChatRequest) -> int:
    contents = (message.get("content") for message in request.messages)
    return sum(
        isinstance(part, dict) and part.get("type") == "image_url"
        for content in contents
        if isinstance(content, list)
        for part in content
    )
