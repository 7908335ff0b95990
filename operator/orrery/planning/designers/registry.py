"""Finds designers by entry point, so that a new one is installed beside Orrery and nothing here changes."""

from __future__ import annotations

from functools import cache

from orrery.planning.designers.base import Designer
from orrery.plugins import entries

GROUP = "orrery.designers"


class UnknownDesigner(ValueError):  # noqa: N818  # reads as what happened
    """No designer of this name is installed; the message names those that are."""


def installed() -> tuple[str, ...]:
    """Names of the installed designers, sorted."""
    return tuple(entries(GROUP))


@cache
def get(name: str) -> Designer:
    """The designer of this name; only its own module is imported.

    Raises:
        UnknownDesigner: with those that are installed.
    """
    entry = entries(GROUP).get(name)
    if entry is None:
        raise UnknownDesigner(f"'{name}': write {' or '.join(installed())}, or leave it out for ExpectedValue")
    designer: Designer = entry.load()
    return designer
