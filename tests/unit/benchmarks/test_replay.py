"""Rivals of the designer get as much money as it took, on average."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path
from statistics import fmean

import pytest

from orrery.api.probe import ProbeSpec, Trial, probe_name
from orrery.planning.types import ProbeRequest
from tests.benchmarks import end_to_end, exhaustive
from tests.benchmarks.grids import TASKS, plan
from tests.benchmarks.recorded import World
from tests.benchmarks.replay import _cut
from tests.benchmarks.tables import InputError

pytestmark = pytest.mark.unit


def test_the_trial_that_the_money_does_not_reach_is_run_as_often_as_makes_the_spend_equal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = next(iter(TASKS))
    world, asked = World(task), plan(task)
    model = asked.spec.models[0]
    rows = [r for r in world.grid["rows"].values() if r["model"] == model.name and r["result"].get("score") is not None]
    trials = [Trial.model_validate(r["trial"]) for r in rows[:4]]
    spec = ProbeSpec(model=model, task=asked.spec.task, trials=trials, accelerator="cpu", deadline_seconds=86400)
    record = world.record(ProbeRequest(probe_name(spec), spec, 1, Decimal(0), Decimal(0), ""))
    start = world.start_seconds(model.name)  # the real one, read once
    monkeypatch.setattr(world, "start_seconds", lambda name: start)
    assert _cut(world, record, record.seconds + 1, random.Random(0)) == (record, True)
    for share in (0.02, 0.4, 0.9):
        left, rng = share * record.seconds, random.Random(1)
        found = [_cut(world, record, left, rng) for _ in range(600)]
        assert not any(goes_on for _, goes_on in found)
        assert fmean(r.seconds if r else 0.0 for r, _ in found) == pytest.approx(left, rel=0.25)
        assert all(r is None or len(r.report.trials) == len(r.spec.trials) for r, _ in found if r is None or r.report)


def test_measured_grids_are_read_from_the_folder_that_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no grid"):
        end_to_end._held(tmp_path)
    task = next(iter(TASKS))
    there = exhaustive.path_of(task, tmp_path)
    there.parent.mkdir()
    there.write_text(exhaustive.path_of(task).read_text())
    assert end_to_end._held(tmp_path) == [task]
    assert end_to_end.truths(task, tmp_path).keys() == end_to_end.truths(task).keys()
