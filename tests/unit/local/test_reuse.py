"""What other plans under the same root have paid for, and what of it a plan may have."""

import json
from decimal import Decimal

import pytest

from orrery.api.probe import Outcome
from orrery.local.reuse import copy_measurements
from orrery.local.store import REPORT, Store
from tests.unit.local import planner

pytestmark = pytest.mark.unit


def measured(folder, plan, outcomes=("Measured", "Measured"), running=False):
    """A state folder in which the plan's first probe has ended with these outcomes."""
    request = planner.advance(plan, [], planner.prices(), None).start[0]
    attempt = Store(folder).reserve(request, request.spec, Decimal("3.6"), 1, "2026-01-01T00:00:00Z")
    told = [
        {"name": t.name, "outcome": outcome, **({"score": "0.5", "items": 8} if outcome == "Measured" else {})}
        for t, outcome in zip(request.spec.trials, outcomes, strict=True)
    ]
    facts = {"digest": "d" * 64, "trainExamples": 8, "evaluationExamples": 8}
    report = {"probe": request.name, "complete": True, "taskFacts": facts, "trials": told}
    (attempt.folder / REPORT).write_text(json.dumps(report))
    if not running:
        (attempt.folder / "started.json").write_text(json.dumps({"startedAt": 1000}))
        (attempt.folder / "exit.json").write_text(
            json.dumps({"code": 0, "cause": "Exited", "seconds": 5, "finishedAt": 1005})
        )
        Store(folder).settle_ended(2000.0)


def reused(folder, digest=None):
    """Trials in the folder that others paid for, by outcome."""
    found = [r for r in Store(folder, digest).records() if r.report is not None]
    assert all(r.reused and r.cost == 0 and r.seconds == 0 for r in found)
    return [t.outcome for r in found for t in r.report.trials]


def test_another_budget_price_or_objective_needs_no_new_measurement(tmp_path):
    measured(tmp_path / "default" / "one", planner.plan("good"))
    mine = planner.plan("good", name="two", budget="7", objective={"goal": "MinimizeCost", "minQuality": "0.2"})
    store = Store(tmp_path / "default" / "two")
    assert copy_measurements(store, tmp_path, mine) == 2
    assert reused(store.folder) == [Outcome.MEASURED] * 2
    assert copy_measurements(Store(store.folder), tmp_path, mine) == 0, "what is there is not copied again"


def test_what_failed_is_tried_anew_and_what_was_an_answer_is_kept(tmp_path):
    measured(tmp_path / "default" / "one", planner.plan("good"), ("Failed", "OutOfMemory"))
    store = Store(tmp_path / "default" / "two")
    assert copy_measurements(store, tmp_path, planner.plan("good", name="two")) == 1
    assert reused(store.folder) == [Outcome.OUT_OF_MEMORY]


@pytest.mark.parametrize(
    "other",
    [
        {"task": {"dataset": {"source": {"builtin": {"name": "other-task"}}}}},
        {"task": {"dataset": {"source": {"builtin": {"name": "stub-task"}}}, "template": {"instruction": "Say."}}},
        {"models": [{"name": "m0", "source": {"builtin": {"name": "another"}}}]},
        {"accelerators": [{"name": "h100"}]},
    ],
    ids=["data", "prompt", "model", "hardware"],
)
def test_measurements_of_something_else_are_nobodys(tmp_path, other):
    measured(tmp_path / "default" / "one", planner.plan("good"))
    store = Store(tmp_path / "default" / "two")
    assert copy_measurements(store, tmp_path, planner.plan("good", name="two", **other)) == 0
    assert reused(store.folder) == []


def test_what_still_runs_is_left_to_who_runs_it_and_a_broken_folder_to_its_owner(tmp_path):
    measured(tmp_path / "default" / "one", planner.plan("good"), running=True)
    measured(tmp_path / "default" / "broken", planner.plan("good"))
    (attempt,) = (tmp_path / "default" / "broken").glob("probes/*/attempt-1")
    (attempt / "record.json").write_text("{")
    store = Store(tmp_path / "default" / "two")
    assert copy_measurements(store, tmp_path, planner.plan("good", name="two")) == 0


def test_measurements_of_data_that_changed_do_not_count(tmp_path):
    measured(tmp_path / "default" / "one", planner.plan("good"))
    store = Store(tmp_path / "default" / "two", "e" * 64)
    assert copy_measurements(store, tmp_path, planner.plan("good", name="two")) == 0
    same = Store(tmp_path / "default" / "three", "d" * 64)
    assert copy_measurements(same, tmp_path, planner.plan("good", name="three")) == 2
