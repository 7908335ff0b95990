"""Finds strategies by entry point, so that a new one is installed beside Orrery and nothing here changes."""

from __future__ import annotations

from functools import cache

from orrery.plugins import entries, nearest
from orrery.strategies.base import Strategy

GROUP = "orrery.strategies"


class UnknownStrategy(ValueError):  # noqa: N818  # reads as what happened
    """No strategy of this type is installed; the message names those that are."""


def installed() -> tuple[str, ...]:
    """Types of the installed strategies, sorted."""
    return tuple(entries(GROUP))


@cache
def get(strategy_type: str) -> Strategy:
    """The strategy of this type; only its own module is imported.

    Raises:
        UnknownStrategy: with the nearest installed type.
    """
    entry = entries(GROUP).get(strategy_type)
    if entry is None:
        hint = nearest(strategy_type, installed())
        raise UnknownStrategy(
            f"'{strategy_type}' is no installed strategy: write one of {', '.join(installed())}{hint}"
        )
    strategy: Strategy = entry.load()
    return strategy
