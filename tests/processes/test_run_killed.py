"""kill -9 of the engine, of a probe's shepherd, of both: real processes, real signals, a stub for the model."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from decimal import Decimal

import pytest

from orrery.planning.types import ProbeState
from tests.processes.harness import ROOT, Quiet, answer
from tests.unit.local import planner

pytestmark = pytest.mark.process

PROBING = {"deadlineSeconds": 20, "retries": 1}

DRIVER = """
import sys
sys.path[:0] = [{root!r}]
from pathlib import Path
from tests.unit.local import planner
from tests.processes.harness import answer
answer(planner.plan(*{families!r}, probing={probing!r}), Path({state!r}), environment={environment!r})
"""


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment_it_goes_on_and_pays_for_nothing_twice(tmp_path, seed):
    """kill -9 of the run at random moments, again and again, then one run to the end: as if nothing had happened."""
    families = ("slow", "good", "slow", "slow")
    probing = {"deadlineSeconds": 20, "retries": 0, "parallelism": 2}
    journal = tmp_path / "journal"
    environment = {"STUB_JOURNAL": str(journal), "STUB_SECONDS": "0.25"}
    state = tmp_path / "state"
    code = DRIVER.format(root=str(ROOT), families=families, probing=probing, state=str(state), environment=environment)
    generator = random.Random(seed)
    for _ in range(3):
        run = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        limit = time.monotonic() + 20
        # Importing takes a while, and killing that shows nothing: wait until there is a state folder to break.
        while run.poll() is None and not (state / "lock").exists() and time.monotonic() < limit:
            time.sleep(0.005)
        time.sleep(generator.uniform(0.0, 0.5))
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    result = answer(planner.plan(*families, probing=probing), state, environment=environment)
    assert [r.state for r in result.records] == [ProbeState.SUCCEEDED] * 4
    lines = journal.read_text().splitlines()
    assert sorted(set(lines)) == sorted(lines), "a measurement was taken twice"
    assert len(lines) == 16
    assert sum(r.attempts for r in result.records) == 4
    untouched = answer(planner.plan(*families, probing=probing), tmp_path / "other")
    assert [(r.name, r.report) for r in result.records] == [(r.name, r.report) for r in untouched.records]


def test_when_the_machine_goes_down_the_attempt_is_charged_and_tried_again(tmp_path):
    """Run and shepherd both die, so nobody saw the end: charged up to now, never nothing; then measured again."""
    state = tmp_path / "state"
    code = DRIVER.format(
        root=str(ROOT), families=("half-then-hang",), probing=PROBING, state=str(state), environment={}
    )
    run = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    while not (found := list(state.glob("probes/*/attempt-1/report.json"))):
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    started = json.loads((found[0].parent / "started.json").read_text())
    os.kill(started["pid"], signal.SIGKILL)
    seen = Quiet()
    (record,) = answer(planner.plan("half-then-hang", probing=PROBING), state, seen).records
    assert seen.events[0] == ("ended", "Lost")
    assert record.state is ProbeState.SUCCEEDED and record.attempts == 2
    first = json.loads((found[0].parent / "record.json").read_text())
    assert Decimal(first["cost"]) > 0 and len(record.report.trials) == 2


def test_a_running_probe_of_a_killed_run_is_adopted_and_not_started_twice(tmp_path):
    state, journal = tmp_path / "state", tmp_path / "journal"
    environment = {"STUB_JOURNAL": str(journal), "STUB_SECONDS": "1.5"}
    code = DRIVER.format(root=str(ROOT), families=("slow",), probing=PROBING, state=str(state), environment=environment)
    run = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    while not list(state.glob("probes/*/attempt-1/started.json")):
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    seen = Quiet()
    (record,) = answer(planner.plan("slow", probing=PROBING), state, seen, environment=environment).records
    assert [event[0] for event in seen.events] == ["adopted", "ended"]
    assert record.state is ProbeState.SUCCEEDED and record.attempts == 1
    assert 1.4 < record.seconds < 20 and record.cost >= Decimal("0.0014")
