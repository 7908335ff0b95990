"""Wakes for plans: many become one, no plan is worked on twice at a time, failures come back later and later.

The same contract as client-go's work queue, on which every level-based controller rests: an event says only *which* plan to
look at, and a plan that is woken while it is being looked at is looked at once more afterwards.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_FIRST_DELAY, _LONGEST_DELAY = 0.2, 60.0


class WorkQueue(Generic[K]):
    """A set of keys to work on, in order of their first wake; blocking, for worker threads.

    A key rests for ``pause`` seconds after it was worked on: twenty Jobs that end within a second are a few looks, not twenty.
    News that came while it was worked on does not rest for longer than that in all: it has waited already.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, pause: float = 0.0) -> None:
        self._clock = clock
        self._pause = pause
        self._rests: dict[K, float] = {}
        self._first: dict[K, float] = {}  # when keys that rest were woken first
        self._ready: dict[K, float] = {}  # insertion-ordered set, with the time of the first wake
        self._busy: set[K] = set()
        self._again: dict[K, float] = {}
        self._later: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._order = itertools.count()
        self._condition = threading.Condition()
        self._closed = False

    def wake(self, key: K) -> None:
        """Look at this key soon."""
        with self._condition:
            self._wake(key, self._clock())

    def _wake(self, key: K, woken: float) -> None:
        if key in self._busy:
            self._again.setdefault(key, woken)
        elif key not in self._ready:
            if (rested := self._rests.get(key, 0.0)) > (now := self._clock()):
                self._first.setdefault(key, woken)
                self.wake_after(key, rested - now)
                return
            self._ready[key] = woken
            self._condition.notify()

    def wake_after(self, key: K, seconds: float) -> None:
        """Look at this key in a while, unless it is due sooner."""
        with self._condition:
            due = self._clock() + max(seconds, 0.0)
            if key in self._due and self._due[key] <= due:
                return
            self._due[key] = due
            heapq.heappush(self._later, (due, next(self._order), key))
            self._condition.notify()

    def take(self, timeout: float | None = None) -> tuple[K, float] | None:
        """The next key and when it was first woken; None when closed or nothing came in time. Call ``done`` afterwards."""
        until = None if timeout is None else self._clock() + timeout
        with self._condition:
            while True:
                self._promote()
                if self._ready:
                    key = next(iter(self._ready))
                    woken = min(self._ready.pop(key), self._first.pop(key, float("inf")))
                    self._busy.add(key)
                    return key, woken
                if self._closed:
                    return None
                waits = [
                    w for w in (self._next_due(), None if until is None else until - self._clock()) if w is not None
                ]
                if until is not None and self._clock() >= until:
                    return None
                self._condition.wait(min(waits) if waits else None)

    def done(self, key: K, failed: bool = False) -> None:
        """The key has been worked on; a failure comes back after a delay that doubles each time."""
        with self._condition:
            self._busy.discard(key)
            if failed:
                count = self._failures[key] = self._failures.get(key, 0) + 1
                self.wake_after(key, min(_FIRST_DELAY * 2 ** (count - 1), _LONGEST_DELAY))
            else:
                self._failures.pop(key, None)
            now = self._clock()
            if self._pause:
                self._rests = {k: until for k, until in self._rests.items() if until > now}
                self._rests[key] = now + self._pause
            if key in self._again:
                woken = self._again.pop(key)
                if woken + self._pause <= now:
                    self._rests.pop(key, None)
                elif self._pause:
                    self._rests[key] = woken + self._pause
                self._wake(key, woken)

    def close(self) -> None:
        """Workers return when they are done with what they have."""
        with self._condition:
            self._closed = True
            self._ready.clear()
            self._condition.notify_all()

    def __len__(self) -> int:
        with self._condition:
            return len(self._ready)

    def _promote(self) -> None:
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            due, _, key = heapq.heappop(self._later)
            if self._due.get(key) != due:
                continue  # it was moved to a sooner time
            del self._due[key]
            if key in self._busy:
                self._again.setdefault(key, now)
            else:
                self._ready.setdefault(key, now)

    def _next_due(self) -> float | None:
        return max(self._later[0][0] - self._clock(), 0.0) if self._later else None
