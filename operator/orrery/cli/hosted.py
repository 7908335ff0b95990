"""Token prices of hosted models as entries of a PriceList, from the package genai-prices (which asks no network here)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from orrery.api.pricelist import PriceList, PriceListSpec, TokenPrice

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

#: The package lists every price in it.
CURRENCY = "USD"


class NoPrice(ValueError):  # noqa: N818  # reads as what happened
    """A model has no token prices here; the message says what to write instead."""


def hosted_list(models: Sequence[str], today: date, base: PriceList | None = None) -> PriceList:
    """The token prices of ``models`` as a PriceList, added to ``base`` where it is given.

    A model is named as its API names it, with the provider before a colon where several host it (``groq:llama-3.1-8b-instant``).
    The date is that of the newest price change in the package, as it stands ``today``, or of ``base`` if that is older: prices
    may have been read later, and are never said to be younger than is known.

    Raises NoPrice with a sentence, and ImportError without the package.
    """
    from genai_prices.data import providers

    if base is not None and base.spec.currency != CURRENCY:
        raise NoPrice(
            f"the PriceList '{base.metadata.name}' is in {base.spec.currency} and token prices are listed in {CURRENCY}: "
            f"give a list in {CURRENCY}, since nothing is converted"
        )
    at = datetime.combine(today, time(), UTC)
    found = [_entry(name, at) for name in dict.fromkeys(models)]
    pages = dict.fromkeys(url for provider, _ in found for url in (provider.pricing_urls or [])[:1])
    source = (
        f"genai-prices {version('genai-prices')} ({', '.join(pages)})"
        if pages
        else f"genai-prices {version('genai-prices')}"
    )
    day = newest_change(providers, today)
    entries = {price.name: price for _, price in found}
    if base is None:
        spec: dict[str, Any] = {
            "currency": CURRENCY,
            "source": source[:512],
            "date": day,
            "hosted_models": list(entries.values()),
        }
        return PriceList.model_validate({"metadata": {"name": "hosted"}, "spec": PriceListSpec(**spec)})
    kept = [m for m in base.spec.hosted_models if m.name not in entries]
    joined = f"{base.spec.source}; tokens: {source}"[:512]
    update = {"source": joined, "date": min(day, base.spec.date), "hosted_models": [*kept, *entries.values()]}
    return base.model_copy(
        update={"spec": PriceListSpec.model_validate(base.spec.model_copy(update=update).model_dump())}
    )


def newest_change(providers: Sequence[Provider], today: date) -> date:
    """Day of the newest price change that is listed and has happened: the listed prices are at least that young."""
    days: list[date] = [
        day
        for provider in providers
        for model in provider.models
        if isinstance(model.prices, list)
        for price in model.prices
        if (day := getattr(price.constraint, "start_date", None)) is not None and day <= today
    ]
    return max(days)


def _entry(asked: str, at: datetime) -> tuple[Provider, TokenPrice]:
    provider, model = _find(asked)
    prices = model.get_prices(at)
    read, written, cached = (_base(getattr(prices, f"{kind}_mtok", None)) for kind in ("input", "output", "cache_read"))
    if read is None or written is None:
        raise NoPrice(f"'{asked}' ({provider.id}) has no price for tokens in and out: it is not paid for by them")
    name = re.sub(r"[^a-z0-9.]+", "-", model.id.lower()).strip("-.")[:48].strip("-.")
    return provider, TokenPrice(
        name=name, input_per_million=read, output_per_million=written, cached_input_per_million=cached
    )


def _find(asked: str) -> tuple[Provider, ModelInfo]:
    from genai_prices.data import providers
    from genai_prices.data_snapshot import get_snapshot

    host, colon, rest = asked.partition(":")
    named = colon and host in {p.id for p in providers}
    try:
        return get_snapshot().find_provider_model(rest if named else asked, None, host if named else None, None)
    except LookupError:
        ids = {
            (f"{p.id}:{m.id}" if named else m.id): None
            for p in providers
            for m in p.models
            if not named or p.id == host
        }
        near = difflib.get_close_matches(asked, list(ids), n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise NoPrice(
            f"'{asked}' is no model that genai-prices lists: write its name in the provider's API, or PROVIDER:MODEL{hint}"
        ) from None


def _base(price: Any) -> Decimal | None:
    """A price by the million tokens; of one that rises with the length of the prompt, the first step's."""
    return None if price is None else Decimal(getattr(price, "base", price))
