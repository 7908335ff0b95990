"""What is installed beside Orrery: entry points by group and name, each imported when it is first used."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points


@cache
def entries(group: str) -> Mapping[str, EntryPoint]:
    """Entry points of a group by name, in the order of their names."""
    found = {e.name: e for e in entry_points(group=group)}
    return dict(sorted(found.items()))


def nearest(name: str, known: Iterable[str]) -> str:
    """How a sentence that lists the known names goes on: ``, such as ...`` with the nearest, or nothing.

    >>> nearest("Qlora", ["LoRA", "QLoRA"]), nearest("Magic", ["LoRA", "QLoRA"])
    (', such as QLoRA', '')
    """
    by_lower = {n.lower(): n for n in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f", such as {by_lower[near[0]]}" if near else ""
