"""Requests of one plan side by side: twenty probes are started in the time of a few, and not by twenty threads a plan.

Starting and telling have lanes of their own: however much is being started, what has ended is told without waiting for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Lanes:
    """So many requests at a time, whoever asks for them; safe to share between threads, though not to nest.

    >>> Lanes(2, "doctest").map(len, ["a", "bc", ""])
    [1, 2, 0]
    """

    def __init__(self, width: int, name: str) -> None:
        self.width = width
        self._pool = ThreadPoolExecutor(width, thread_name_prefix=name)

    def map(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Results in the order of ``items``. Everything has ended when it returns, or raises what the first failure raised.

        A plan is looked at by one thread at a time, and nothing of a look may go on after it.
        """
        if len(items) < 2:
            return [work(item) for item in items]
        running = [self._pool.submit(work, item) for item in items]
        wait(running)
        return [future.result() for future in running]
