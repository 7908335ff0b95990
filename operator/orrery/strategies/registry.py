"""Finds strategies by entry point, so that a new one is installed beside Orrery and nothing here changes."""

from __future__ import annotations

import difflib
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from orrery.strategies.base import Strategy

GROUP = "orrery.strategies"


class UnknownStrategy(ValueError):  # noqa: N818  # reads as what happened
    """No strategy of this type is installed; the message names those that are."""


@cache
def _entries() -> dict[str, EntryPoint]:
    return {e.name: e for e in entry_points(group=GROUP)}


def installed() -> tuple[str, ...]:
    """Types of the installed strategies, sorted."""
    return tuple(sorted(_entries()))


@cache
def get(strategy_type: str) -> Strategy:
    """The strategy of this type; only its own module is imported.

    Raises:
        UnknownStrategy: with the nearest installed type.
    """
    entry = _entries().get(strategy_type)
    if entry is None:
        near = difflib.get_close_matches(strategy_type.lower(), [n.lower() for n in installed()], n=1, cutoff=0.5)
        hint = next((f", such as {n}" for n in installed() if near and n.lower() == near[0]), "")
        raise UnknownStrategy(
            f"'{strategy_type}' is no installed strategy: write one of {', '.join(installed())}{hint}"
        )
    strategy: Strategy = entry.load()
    return strategy
