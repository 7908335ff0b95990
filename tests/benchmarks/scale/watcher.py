"""Watching from outside when Jobs were complete and when the statuses of their plans said so."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from orrery.controller.attempts import finished
from tests.benchmarks.scale import BROKEN, ORRERY, SELECTOR, asked
from tests.chaos.run import answered
from tests.cluster.rest import Json, Rest


@dataclass
class Watcher:
    """When Jobs were complete and when plans' statuses said so, by two watches; and which plans are answered."""

    rest: Rest
    jobs_done: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  #: by plan
    told: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  #: by plan, k-th probe counted
    answered: dict[str, float] = field(default_factory=dict)
    updates: Counter[str] = field(default_factory=Counter)
    complete: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)
    _probe_of: dict[str, str] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> Watcher:
        """Watch, in threads."""
        for path, handle in ((f"{ORRERY}/adaptationplans", self._plan), (f"/apis/batch/v1/jobs{SELECTOR}", self._job)):
            version = self.rest.get(path)["metadata"]["resourceVersion"]
            threading.Thread(target=self._follow, args=(path, version, handle), daemon=True).start()
        return self

    def stop(self) -> None:
        """No more."""
        self._stop.set()

    def _follow(self, path: str, version: str, handle: Any) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(*BROKEN):
                for kind, item in self.rest.watch(path, version, seconds=30):
                    version = item["metadata"]["resourceVersion"]
                    if kind in ("ADDED", "MODIFIED"):
                        handle(item, time.monotonic())
                    if self._stop.is_set():
                        return

    def _job(self, job: Json, at: float) -> None:
        uid = job["metadata"]["uid"]
        if uid in self._seen or not finished(job):
            return
        self._seen.add(uid)
        plan = asked(job)["task"]["dataset"]["source"]["builtin"]["name"]
        with self.changed:
            self.jobs_done[plan].append(at)
            self.complete += 1
            self.changed.notify_all()

    def _plan(self, plan: Json, at: float) -> None:
        name = plan["metadata"]["name"]
        progress = (plan.get("status") or {}).get("progress") or {}
        counted = progress.get("succeeded", 0) + progress.get("failed", 0)
        with self.changed:
            self.updates[name] += 1
            self.told[name] += [at] * (counted - len(self.told[name]))
            if name not in self.answered and answered(plan):
                self.answered[name] = at
                self.changed.notify_all()

    def latencies(self) -> list[float]:
        """Seconds from the k-th complete Job of a plan to the status that counts k ended probes, over all plans."""
        return [
            max(0.0, told - done)
            for plan, dones in self.jobs_done.items()
            for done, told in zip(sorted(dones), self.told[plan], strict=False)
        ]
