"""When a plan that rests has something to say or to do all the same: its prices grow old, its time to be kept runs out."""

from __future__ import annotations

from datetime import datetime, timedelta

from orrery.api.pricelist import PriceList
from orrery.controller.attempts import parse_timestamp
from orrery.controller.server import Object
from orrery.costs.prices import days_until_old


def until_old(prices: PriceList, now: datetime) -> float | None:
    """Seconds until the prices are to be said to be old, so that finished plans say it too; None when they are."""
    days = days_until_old(prices, now.date())
    if days is None:
        return None
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight + timedelta(days=days) - now).total_seconds()


def until_expired(body: Object, now: datetime) -> float | None:
    """Seconds until a plan is to be deleted, 0 when it is due; None without an answer to the spec as it is."""
    spec, told = body.get("spec"), body.get("status") or {}
    ttl = spec.get("ttlSecondsAfterFinished") if isinstance(spec, dict) else None
    if not isinstance(ttl, int) or told.get("observedGeneration") != body["metadata"].get("generation"):
        return None
    at = parse_timestamp(told.get("completionTime"))
    return None if at is None else max(0.0, ttl - (now - at).total_seconds())
