"""Waiting in tests: as long as a busy machine needs, and never for longer than it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

#: How many times longer than on an idle machine a test waits before it fails: other tests run beside it, machines differ, and
#: some of Kubernetes' own periods (the garbage collector's, after definitions changed) are half a minute.
PATIENCE = 4.0


def until(
    check: Callable[[], Any], seconds: float = 60, every: float = 0.1, what: str = "", patience: float = PATIENCE
) -> Any:
    """The first true value of ``check``; fails the test, with the last value, when there is none in time.

    ``seconds`` are those of an idle machine; ``patience=1`` where the time itself is what is tested. Looks every ``every``
    seconds, and less often the longer it lasts: to look costs what is waited for some of its time.
    """
    seconds *= patience
    began, value = time.monotonic(), None
    while (waited := time.monotonic() - began) < seconds:
        value = check()
        if value:
            return value
        time.sleep(max(every, min(0.4, waited / 20)))
    raise AssertionError(f"not true within {seconds} s: {what or check}; the last was {value!r}")


def crowding() -> float:
    """How many times longer a computation takes now than with a core of its own, at least 1.

    A demand on time is held against this, so that it fails for what the program does and not for what else runs.
    """
    wall, cpu = time.perf_counter(), time.thread_time()
    while time.thread_time() - cpu < 0.1:
        sum(range(1000))
    return max(1.0, (time.perf_counter() - wall) / (time.thread_time() - cpu))
