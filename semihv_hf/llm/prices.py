"""What a call costs: prices from a dated list, or from the user's own table, and never a guess.

The list is that of the package `genai-prices`, as it was when the installed version was released: nothing is fetched.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semihv_hf.data.licences import is_local_url
from semihv_hf.errors import SemiHVError

if TYPE_CHECKING:
    from semihv_hf.llm.types import ServerSettings, Usage

logger = logging.getLogger(__name__)

BATCH_FACTOR = 0.5
_FIELDS = ("input", "cached_input", "output", "batch_factor")


@dataclass(frozen=True)
class Price:
    """The price of a model, in dollars for a million tokens.

    Args:
        input (`float`): for what is sent.
        output (`float`): for what comes back, reasoning included.
        cached_input (`float`, *optional*): for what is sent and the server still had; `None` for the price of `input`.
        batch_factor (`float`, *optional*, defaults to 0.5): what a batch costs of this.
        source (`str`, *optional*): where the price was read.
    """

    input: float
    output: float
    cached_input: float | None = None
    batch_factor: float = BATCH_FACTOR
    source: str = "given"

    def cost(self, usage: Usage, *, batch: bool = False) -> float:
        """The dollars for a call.

        Args:
            usage ([`Usage`]): its tokens.
            batch (`bool`, *optional*, defaults to `False`): whether it went through the batch API.

        Returns:
            `float`: dollars.
        """
        cached = min(usage.cached_tokens, usage.input_tokens)
        cached_price = self.input if self.cached_input is None else self.cached_input
        dollars = (
            (usage.input_tokens - cached) * self.input + cached * cached_price + usage.output_tokens * self.output
        )
        return dollars * (self.batch_factor if batch else 1.0) / 1e6


class Prices:
    """Finds prices: first in the user's table, then in the dated list.

    Args:
        table (`Mapping`, `str` or `pathlib.Path`, *optional*): own prices, `{model: {"input": 2.5, "output": 10}}` in
            dollars for a million tokens, with `cached_input` and `batch_factor` where they differ; or a YAML or JSON
            file that holds such a table. The model `"*"` stands for all that are not named.
        on (`datetime.date`, *optional*): the day whose prices of the list count; today's by default.

    Raises:
        `SemiHVError`: the table cannot be read or holds something that is no price; the message names it.

    Example:

    ```python
    >>> from semihv_hf.llm.prices import Prices
    >>> from semihv_hf.llm.types import ServerSettings, Usage
    >>> prices = Prices({"a-model": {"input": 2.0, "output": 8.0}})
    >>> prices.cost(ServerSettings("http://127.0.0.1:8000/v1", "a-model"), Usage(1000, 0, 500))
    0.006

    ```
    """

    def __init__(self, table: Mapping[str, Any] | str | Path | None = None, *, on: date | None = None):
        self.on = on
        self._table = _read_table(table)
        self._found: dict[tuple[str, str], str | None] = {}
        self._lock = threading.Lock()

    def cost(self, settings: ServerSettings, usage: Usage, *, batch: bool = False) -> float | None:
        """The dollars for a call.

        Args:
            settings ([`ServerSettings`]): the server and the model that was asked.
            usage ([`Usage`]): its tokens.
            batch (`bool`, *optional*, defaults to `False`): whether it went through the batch API.

        Returns:
            `float` or `None`: dollars; `None` if no price is known.
        """
        own = self._own(settings.model)
        if own is not None:
            return own.cost(usage, batch=batch)
        return self._listed(settings, usage, batch)

    def source(self, settings: ServerSettings) -> str | None:
        """Where the price of a model comes from, for a manifest. Warns once if there is none.

        Args:
            settings ([`ServerSettings`]): the server and the model.

        Returns:
            `str` or `None`: a line that names table or list, its version and its day; `None` if no price is known.
        """
        own = self._own(settings.model)
        if own is not None:
            return own.source
        with self._lock:
            place = (settings.shown_url, settings.model)
            if place not in self._found:
                self._found[place] = self._listed_source(settings)
                # A server on this machine bills nobody.
                if self._found[place] is None and not is_local_url(settings.base_url):
                    logger.warning(
                        "No price is known for model %s at %s, so dollars are not counted. Give a price table.",
                        settings.model,
                        settings.shown_url,
                    )
            return self._found[place]

    def _own(self, model: str) -> Price | None:
        return self._table.get(model, self._table.get("*"))

    def _listed(self, settings: ServerSettings, usage: Usage, batch: bool) -> float | None:
        found = _calculate(settings, usage, self._day(), batch)
        return None if found is None else float(found.total_price)

    def _listed_source(self, settings: ServerSettings) -> str | None:
        from semihv_hf.llm.types import Usage

        found = _calculate(settings, Usage(1, 0, 1), self._day(), False)
        if found is None:
            return None
        from importlib.metadata import version

        by = "" if _provider(settings) == found.provider.id else ", matched by the model's name"
        day = self._day().date().isoformat()
        return f"genai-prices {version('genai-prices')}, {found.provider.id}/{found.model.id}, prices of {day}{by}"

    def _day(self) -> datetime:
        if self.on is None:
            return datetime.now(timezone.utc)
        return datetime.combine(self.on, time(12), timezone.utc)


def _calculate(settings: ServerSettings, usage: Usage, when: datetime, batch: bool) -> Any:
    """Asks the list; `None` where it knows nothing."""
    if is_local_url(settings.base_url):
        return None  # a server on this machine may have a famous model's name and any price, mostly none
    try:
        from genai_prices import Usage as ListUsage
        from genai_prices import calc_price
    except ImportError:
        return None
    tokens = ListUsage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=min(usage.cached_tokens, usage.input_tokens),
        output_tokens=usage.output_tokens,
    )
    context = {"processing": "batch"} if batch else None
    try:
        return calc_price(
            tokens,
            settings.model,
            provider_id=_provider(settings),
            genai_request_timestamp=when,
            price_context=context,
        )
    except (LookupError, ValueError):
        return None


def _provider(settings: ServerSettings) -> str | None:
    """Whose server an address is; `None` for one that the list does not know, as of a proxy."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        return get_snapshot().find_provider(None, None, settings.shown_url).id
    except LookupError:
        return None


def _read_table(table: Mapping[str, Any] | str | Path | None) -> dict[str, Price]:
    if table is None:
        return {}
    name = "the price table"
    if isinstance(table, (str, Path)):
        import yaml

        from semihv_hf.yaml_files import safe_yaml

        name = Path(table).name
        try:
            table = safe_yaml(Path(table).read_text(encoding="utf-8"))  # JSON is YAML
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise SemiHVError(f"The price table {name} cannot be read: {error}") from error
    if not isinstance(table, Mapping):
        raise SemiHVError(f"{name} is no mapping of models to prices.", _FORM)
    return {str(model): _own_price(str(model), entry, name) for model, entry in table.items()}


_FORM = "Write {model: {input: 2.5, output: 10.0}}, in dollars for a million tokens."


def _own_price(model: str, entry: Any, name: str) -> Price:
    if isinstance(entry, Price):
        return entry
    if not isinstance(entry, Mapping) or not {"input", "output"} <= set(entry) <= {*_FIELDS}:
        raise SemiHVError(f"{name}: the price of {model!r} does not consist of {', '.join(_FIELDS)}.", _FORM)
    for field, value in entry.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise SemiHVError(f"{name}: {field} of {model!r} is {value!r}, which is no price.", _FORM)
    return Price(**entry, source=name)
