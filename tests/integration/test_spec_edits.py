"""What an edit of a plan does to the probes that run for it, on a real API server."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.integration.operators import Namespace, Operator, plan
from tests.waiting import until

pytestmark = pytest.mark.integration

OTHER_DATA = {"dataset": {"source": {"huggingFace": {"repo": "sim/data", "revision": "edited"}}}}


def attempts(space: Namespace) -> dict[str, dict[str, Any]]:
    """The last attempt of every probe, by its Job."""
    last = [(p.get("status") or {}).get("attempts", [])[-1:] for p in space.probes()]
    return {a["jobName"]: a for listed in last for a in listed}


def test_other_data_are_probed_at_once_and_the_probe_of_the_old_is_ended_and_paid(
    operator: Operator, simulating: Cluster, space: Namespace
) -> None:
    space.prices("shared")
    gate = space.gate(simulating)
    probing = {"deadlineSeconds": 600, "parallelism": 1, "evaluationItems": 200}
    zero_shot = [{"name": "zero-shot", "type": "ZeroShot"}]
    gated: dict[str, Any] = {"modelCache": {"claimName": "gate"}, "strategies": zero_shot, "probing": probing}
    space.apply(plan(prices="shared", models=("gate",), **gated))
    until(lambda: len(space.running()) == 1, 30)
    ((old, _),) = attempts(space).items()
    space.edit("plan", {"task": OTHER_DATA})

    def jobs() -> set[str]:
        return {j["metadata"]["name"] for j in space.jobs()}

    # there is one place, and it does not wait for the old probe, which would run for ten minutes
    (new,) = until(lambda: jobs() - {old}, 15)
    until(lambda: old not in jobs(), 15)
    ended = until(lambda: (a := attempts(space)[old]).get("cost") and a, 60)
    assert ended["reason"] == "Interrupted" and "does not ask for it any more" in ended["message"]
    assert 0 < Decimal(ended["cost"]) < Decimal(ended["reserved"]), "its seconds, not what was set aside"
    gate.touch()
    found = space.answered(seconds=90)["status"]
    assert attempts(space)[new]["reason"] == "Completed"
    assert Decimal(found["spend"]["cost"]) == sum(Decimal(a["cost"]) for a in attempts(space).values())
    assert found["spend"]["reserved"] == "0" and "completionTime" in found
