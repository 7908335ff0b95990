"""Runs the engine with the stub probe and the small planner."""

import os
import sys
from pathlib import Path

from orrery.local import engine
from orrery.planning.types import Facts
from tests.unit.local import planner

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STUB = HERE / "stub_probe.py"


class Quiet:
    def __init__(self):
        self.events = []
        self.on_wait = lambda: None

    def step(self, step, records):
        pass

    def started(self, request, attempt):
        self.events.append(("started", request.name))

    def adopted(self, attempt):
        self.events.append(("adopted", attempt.probe))

    def ended(self, attempt):
        self.events.append(("ended", attempt.record.reason))

    def reused(self, trials):
        self.events.append(("reused", trials))

    def waiting(self):
        self.on_wait()


def settings(state, **changes):
    environment = {**os.environ, **changes.pop("environment", {})}
    return engine.Settings(
        state=state,
        command=lambda spec, report: [sys.executable, str(STUB), str(spec), str(report)],
        grace_seconds=0.3,
        environment=environment,
        poll_seconds=0.01,
        **changes,
    )


def answer(plan, state, observer=None, stop=None, prices=None, facts=None, **changes):
    return engine.run(
        plan,
        prices or planner.prices(),
        facts or Facts(),
        settings(state, **changes),
        planner.advance,
        observer or Quiet(),
        stop or engine.Stop(),
    )
