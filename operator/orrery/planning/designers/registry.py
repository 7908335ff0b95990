"""Finds designers by entry point, so that a new one is installed beside Orrery and nothing here changes."""

from __future__ import annotations

from functools import cache

from orrery.planning.designer_names import entry
from orrery.planning.designers.base import Designer


@cache
def get(name: str) -> Designer:
    """The designer of this name; only its own module is imported.

    Raises:
        UnknownDesigner: with those that are installed.
    """
    designer: Designer = entry(name).load()
    return designer
