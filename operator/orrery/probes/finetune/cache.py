"""What one trial of a session computed and the next can use: it lives and dies with the session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from orrery.probes.session import Session

Value = TypeVar("Value")


def remembered(session: Session, key: str, make: Callable[[], Value]) -> Value:
    """The session's value under ``key``; made at the first call. What fails to be made is not remembered."""
    # An attribute rather than a global table: a table would keep a gigabyte alive after its session.
    kept: dict[str, Any] = session.__dict__.setdefault("_remembered", {})
    if key not in kept:
        kept[key] = make()
    return cast(Value, kept[key])
