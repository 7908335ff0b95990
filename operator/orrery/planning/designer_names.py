"""Which designers are installed, by name; nothing of theirs is imported."""

from __future__ import annotations

from importlib.metadata import EntryPoint

from orrery.plugins import entries

GROUP = "orrery.designers"


class UnknownDesigner(ValueError):  # noqa: N818  # reads as what happened
    """No designer of this name is installed; the message names those that are."""


def installed() -> tuple[str, ...]:
    """Names of the installed designers, sorted."""
    return tuple(entries(GROUP))


def entry(name: str) -> EntryPoint:
    """The entry point of this name.

    Raises:
        UnknownDesigner: with those that are installed.
    """
    found = entries(GROUP).get(name)
    if found is None:
        raise UnknownDesigner(f"'{name}': write {' or '.join(installed())}, or leave it out for ExpectedValue")
    return found
