"""What a state folder makes of reports that disagree on what they loaded."""

import json
from decimal import Decimal

import pytest

from orrery.api.models import Model
from orrery.local.store import REPORT, Store
from orrery.planning.types import ProbeState
from tests.unit.local import planner

pytestmark = pytest.mark.unit


def test_a_model_that_moved_on_the_hub_fails_its_probe_and_leaves_the_others(tmp_path):
    source = {"huggingFace": {"repo": "me/small"}}
    plan, store = planner.plan("good"), Store(tmp_path)
    request = planner.advance(plan, [], planner.prices(), None).start[0]
    hub = Model.model_validate({"name": "m0", "source": source})
    for seed, commit in enumerate(("a" * 40, "b" * 40)):
        trials = [t.model_copy(update={"seed": seed}) for t in request.spec.trials]
        spec = request.spec.model_copy(update={"model": hub, "trials": trials})
        asked = planner.ProbeRequest(
            name=planner.probe_name(spec),
            spec=spec,
            attempt=1,
            reservation=Decimal("0.1"),
            expected_cost=Decimal("0.01"),
            reason="first",
        )
        attempt = store.reserve(asked, spec, Decimal("3.6"), 1, "2026-01-01T00:00:00Z")
        told = [
            {"name": t.name, "outcome": "Measured", "score": "0.5", "items": t.fidelity.evaluation_items}
            for t in trials
        ]
        report = {"probe": asked.name, "complete": True, "modelCommit": commit, "trials": told}
        (attempt.folder / REPORT).write_text(json.dumps(report))
        (attempt.folder / "started.json").write_text(json.dumps({"startedAt": 1000}))
        ending = {"code": 0, "cause": "Exited", "seconds": 5, "finishedAt": 1005}
        (attempt.folder / "exit.json").write_text(json.dumps(ending))
        (closed,) = store.settle_ended(2000.0)
        if commit == "a" * 40:
            assert closed.record.phase == "Succeeded", closed.record.message
        else:
            assert (closed.record.phase, closed.record.reason) == ("Failed", "RevisionMismatch")
            assert (
                "'main' of 'me/small' at commit bbbbbbbbbbbb, and other probes at aaaaaaaaaaaa" in closed.record.message
            )
            assert closed.record.cost > 0
    kept = {r.report.model_commit if r.report else None: r for r in Store(tmp_path).records()}
    assert {c: r.state for c, r in kept.items()} == {"a" * 40: ProbeState.SUCCEEDED, None: ProbeState.FAILED}
    assert kept[None].retryable
