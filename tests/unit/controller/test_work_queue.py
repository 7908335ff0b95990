"""The queue keeps client-go's promises: no key twice at once, no wake lost, failures later and later."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.controller.work_queue import WorkQueue
from tests.waiting import until

pytestmark = pytest.mark.unit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_many_wakes_are_one() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b", "a"):
        queue.wake(key)
    assert len(queue) == 2
    assert [queue.take(0)[0], queue.take(0)[0], queue.take(0)] == ["a", "b", None]


def test_a_burst_of_wakes_is_few_looks_and_the_wait_counts() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock, pause=0.2)
    queue.wake("a")
    assert queue.take(0) == ("a", 0.0), "the first is not kept waiting"
    clock.now = 0.05
    queue.wake("a")
    clock.now = 0.1
    queue.done("a")
    clock.now = 0.2
    queue.wake("a")
    assert queue.take(0) is None
    queue.wake("b")
    assert queue.take(0) == ("b", 0.2), "others do not wait"
    clock.now = 0.31
    assert queue.take(0) == ("a", 0.05)
    queue.done("a")
    clock.now = 1.0
    queue.wake("a")
    assert queue.take(0) == ("a", 1.0)


@pytest.mark.parametrize(("took", "again_at"), [(0.05, 0.24), (0.15, 0.24), (0.24, 0.24), (1.0, 1.0)])
def test_what_came_during_a_look_rests_no_longer_than_what_comes_after_it(took: float, again_at: float) -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock, pause=0.2)
    queue.wake("a")
    queue.take(0)
    clock.now = 0.04
    queue.wake("a")
    clock.now = took
    queue.done("a")
    if took < again_at:
        clock.now = again_at - 0.01
        assert queue.take(0) is None
    clock.now = again_at + 1e-9
    assert queue.take(0) == ("a", 0.04), "the wait counts"


def test_a_wake_during_the_work_comes_back_afterwards_and_only_then() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.wake("a")
    assert queue.take(0)[0] == "a"
    queue.wake("a")
    queue.wake("a")
    assert queue.take(0) is None
    queue.done("a")
    assert queue.take(0)[0] == "a"
    queue.done("a")
    assert queue.take(0) is None


def test_failures_come_back_later_and_later_until_one_succeeds() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock)

    def delay_after_failure() -> float:
        queue.done("a", failed=True)
        before = clock.now
        while queue.take(0) is None:
            clock.now += 0.125
        return clock.now - before

    queue.wake("a")
    queue.take(0)
    delays = [delay_after_failure() for _ in range(12)]
    assert delays == sorted(delays) and delays[0] == 0.25 and 60 <= delays[-1] < 60.2
    queue.done("a")
    queue.wake("a")
    queue.take(0)
    assert delay_after_failure() == 0.25


def test_the_sooner_of_two_times_counts() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock)
    queue.wake_after("a", 10)
    queue.wake_after("a", 1)
    queue.wake_after("a", 5)
    assert queue.take(0) is None
    clock.now = 1.0
    assert queue.take(0)[0] == "a"
    queue.done("a")
    clock.now = 100.0
    assert queue.take(0) is None


def test_closing_frees_who_waits() -> None:
    queue: WorkQueue[str] = WorkQueue()
    found = []
    thread = threading.Thread(target=lambda: found.append(queue.take()))
    thread.start()
    queue.close()
    thread.join(60)
    assert found == [None]


steps = st.lists(st.tuples(st.sampled_from(["wake", "take", "done", "fail", "later", "tick"]), st.integers(0, 3)))


@settings(max_examples=200, deadline=None)
@given(steps)
def test_no_key_is_worked_on_twice_at_once_and_no_wake_is_lost(steps: list[tuple[str, int]]) -> None:
    clock = Clock()
    queue: WorkQueue[int] = WorkQueue(clock)
    busy: set[int] = set()
    owed: set[int] = set()  # woken since they were last taken
    for what, key in steps:
        if what == "wake":
            queue.wake(key)
            owed.add(key)
        elif what == "later":
            queue.wake_after(key, key)
            owed.add(key)
        elif what == "take" and (taken := queue.take(0)) is not None:
            assert taken[0] not in busy
            busy.add(taken[0])
            owed.discard(taken[0])
        elif what in ("done", "fail") and key in busy:
            busy.discard(key)
            queue.done(key, failed=what == "fail")
            owed |= {key} if what == "fail" else set()
        elif what == "tick":
            clock.now += 1
    for key in busy:
        queue.done(key)
    clock.now += 1000
    found = set()
    while (taken := queue.take(0)) is not None:
        found.add(taken[0])
        queue.done(taken[0])
    assert owed <= found


def test_worker_threads_never_share_a_key() -> None:
    queue: WorkQueue[int] = WorkQueue()
    at_once: Counter[int] = Counter()
    worked: Counter[int] = Counter()
    problems = []

    def work() -> None:
        while (taken := queue.take()) is not None:
            at_once[taken[0]] += 1
            if at_once[taken[0]] > 1:
                problems.append(taken[0])
            time.sleep(0.001)
            worked[taken[0]] += 1
            at_once[taken[0]] -= 1
            queue.done(taken[0])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for i in range(300):
        queue.wake(i % 7)
    until(lambda: len(worked) == 7 and not len(queue), 10, every=0.01)
    queue.close()
    for thread in threads:
        thread.join()
    assert not problems and set(worked) == set(range(7))
