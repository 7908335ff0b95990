"""The recorder finds what it is there to find: a run without violations means something."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orrery.api.plan import AdaptationPlan
from orrery.api.probe import ProbeSpec, Trial, probe_name
from tests.chaos import plans, probe
from tests.chaos.recorder import Recorder, Seen

pytestmark = pytest.mark.unit
NAMESPACE = "chaos-a"


class Listing:
    """A server that lists what it is told to."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []

    def get(self, path: str, timeout: float = 10) -> dict[str, Any]:
        return {"items": self.items}


def spec() -> ProbeSpec:
    plan = AdaptationPlan.model_validate(plans.plan(NAMESPACE, "plan", "task", ["m"]))
    trial = Trial.model_validate({"name": "t0", "strategy": "ZeroShot", "fidelity": {"evaluationItems": 200}})
    return ProbeSpec(
        model=plan.spec.models[0], task=plan.spec.task, trials=[trial], accelerator="cpu", deadline_seconds=14
    )


def body(report: dict[str, Any] | None, *attempts: dict[str, Any]) -> dict[str, Any]:
    status = {"attempts": list(attempts), **({"report": report} if report else {})}
    meta = {"name": probe_name(spec()), "namespace": NAMESPACE, "uid": "u", "resourceVersion": "1"}
    return {"metadata": meta, "spec": spec().to_wire(), "status": status}


def attempt(**told: str) -> dict[str, Any]:
    name = f"{probe_name(spec())}-1"
    return {"number": 1, "jobName": name, "phase": "Succeeded", "reserved": "0.14", "paidBy": "plan", **told}


def recorder(*items: dict[str, Any]) -> Recorder:
    server = Listing()
    found = Recorder(server)  # type: ignore[arg-type]
    server.items = list(items)
    found.budgets[NAMESPACE, "plan"] = Decimal("0.1")
    found.sample()
    return found


def report() -> dict[str, Any]:
    return probe.report(spec().to_wire(), probe_name(spec()), 1.0)


def test_a_reservation_beyond_the_budget_is_overspent_and_its_cost_within_it_is_not() -> None:
    assert recorder(body(None, attempt())).overspent == ["chaos-a/plan: 0.14 of 0.1"]
    assert recorder(body(None, attempt(cost="0.1"))).overspent == []


def test_a_complete_report_that_no_status_holds_is_lost_unless_an_interruption_took_it() -> None:
    found = recorder(body(None, attempt(cost="0.1")))
    found.pods["pod"] = Seen(NAMESPACE, probe_name(spec()), 1, message=json.dumps(report()))
    assert found.lost() == [f"chaos-a/{probe_name(spec())}-1: t0 of a complete report"]
    found.destroyed.add((NAMESPACE, f"{probe_name(spec())}-1"))
    assert found.lost() == []
    kept = recorder(body(report(), attempt(cost="0.1")))
    kept.pods = found.pods
    assert (kept.lost(), kept.reports()) == ([], 1)


def test_a_measurement_that_disappears_or_changes_is_lost() -> None:
    found = recorder(body(report(), attempt(cost="0.1")))
    found.rest.items = [body(None, attempt(cost="0.1"))]  # type: ignore[attr-defined]
    found.sample()
    assert len(found.forgotten) == 1


def test_two_jobs_of_one_name_are_found_by_uid_and_in_the_audit_log(tmp_path: Path) -> None:
    found = recorder()
    for uid in ("a", "b"):
        found._job("ADDED", {"metadata": {"namespace": NAMESPACE, "name": "probe-x-1", "uid": uid}})
    assert len(found.duplicated(None)) == 1
    log = tmp_path / "audit.log"
    made = {"verb": "create", "objectRef": {"resource": "jobs", "namespace": "n", "name": "j"}}
    lines = [json.dumps({**made, "responseStatus": {"code": code}}) for code in (201, 409, 201)]
    log.write_text("\n".join([*lines, '{"cut']))
    assert recorder().duplicated(log) == ["n/j was created 2 times"]


def test_pods_that_ran_for_more_than_the_budget_are_found_whatever_was_charged() -> None:
    found = recorder(body(None, attempt(cost="0.01")))
    began, ended = "2026-01-01T00:00:00Z", "2026-01-01T00:00:11Z"
    found.pods["pod"] = Seen(NAMESPACE, probe_name(spec()), 1, started=began, finished=ended)
    assert found.really_overspent(Decimal(36)) == ["chaos-a/plan: its Pods ran for 0.1100 of 0.1"]
    assert found.really_overspent(Decimal(30)) == []
