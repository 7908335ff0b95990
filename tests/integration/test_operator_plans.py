"""Plans on a real API server: answered, edited, shared, suspended, broken and mended; probes are simulated.

One operator with the chart's account serves all of it, so every test is also proof that its rights suffice.
"""

from __future__ import annotations

import subprocess
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from orrery.controller import results
from tests.cluster import Cluster
from tests.cluster.decision import FurtherProbe, decided_locally, differences
from tests.integration.operators import IMAGE, Namespace, Operator, conditions, kstatus, plan, stalled
from tests.unit.charts.test_gitops import ARGOCD_OF_KSTATUS, flux, health
from tests.waiting import crowding, until

pytestmark = pytest.mark.integration

LORA = {
    "name": "lora",
    "type": "LoRA",
    "grid": [
        {"name": "rank", "values": [4]},
        {"name": "learningRate", "values": ["1e-3"]},
        {"name": "epochs", "values": [1]},
        {"name": "dataPercent", "values": [25, 100]},
    ],
}


APPLIED = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}


def test_a_plan_is_answered_as_it_is_locally(
    operator: Operator, simulating: Cluster, space: Namespace, kubernetes: client.ApiClient, tmp_path: Path
) -> None:
    space.prices("shared")
    strategies = [*plan()["spec"]["strategies"], LORA]
    asked = plan(prices="shared", models=("ok", "ok"), strategies=strategies)
    asked["metadata"]["annotations"] = APPLIED
    space.apply(asked)
    phases: list[tuple[str, str]] = []
    seen: dict[str, dict[str, Any]] = {}
    tokens: list[str] = []

    def over() -> bool:
        now = space.plan()
        seen[now["metadata"]["resourceVersion"]] = now
        phases.append((kstatus(now), (now.get("status") or {}).get("phase", "")))
        for pod in space.pods():
            for container in pod["spec"]["containers"]:
                tokens.extend(m["mountPath"] for m in container["volumeMounts"] if "serviceaccount" in m["mountPath"])
        return phases[-1][0] != "InProgress"

    until(over, 120)
    found = space.answered()
    status = found["status"]
    # kstatus reads it right in each phase
    assert {k for k, _ in phases[:-1]} == {"InProgress"} and phases[-1] == ("Current", "Answered")
    assert "Probing" in {p for _, p in phases}
    # and so do Argo CD and Flux, of every status that was there to be seen
    told = [now for now in seen.values() if "status" in now]
    read = [kstatus(now) for now in told]
    assert [flux(now) for now in told] == read
    assert [health("AdaptationPlan", now)["status"] for now in told] == [ARGOCD_OF_KSTATUS[status] for status in read]
    said = conditions(found)
    assert set(said) == {
        *("Ready", "Reconciling", "Stalled", "Validated", "ProbesCompleted", "BudgetAvailable", "Feasible")
    }
    note = said["Validated"][2]
    assert note == "" or note.startswith(("this server is Kubernetes 1.", "the prices of '"))
    # the same measurements, the same decision
    listed = space.custom.get_cluster_custom_object("orrery.dev", "v1alpha1", "pricelists", "shared")
    assert differences(status, decided_locally(found, space.probes(), listed, tmp_path / "same")) == []
    # and the comparison sees another one
    dearer = {**listed, "spec": {**listed["spec"], "accelerators": [{"name": "cpu", "pricePerHour": "0.37"}]}}
    assert differences(status, decided_locally(found, space.probes(), dearer, tmp_path / "dearer"))
    with pytest.raises(FurtherProbe):
        decided_locally(found, [], listed, tmp_path / "none")
    # every attempt was a Job of its own, paid within what was reserved; its Pod had no token
    probes = space.probes()
    assert status["progress"]["succeeded"] == len(probes) == len(space.jobs())
    attempts = [a for p in probes for a in p["status"]["attempts"]]
    assert all(Decimal(a["cost"]) <= Decimal(a["reserved"]) for a in attempts)
    assert sum(Decimal(a["cost"]) for a in attempts) == Decimal(status["spend"]["cost"])
    assert tokens == [] and all(
        j["spec"]["template"]["spec"]["automountServiceAccountToken"] is False for j in space.jobs()
    )
    # nothing of Kopf's is left on any object, and what kubectl left on the plan is on no other
    assert found["metadata"]["annotations"] == APPLIED and not found["metadata"].get("finalizers")
    for thing in probes:
        assert not thing["metadata"].get("finalizers") and not thing["metadata"].get("annotations")
    for thing in (*space.jobs(), *space.pods()):
        assert not any("kubectl" in key or "kopf" in key for key in thing["metadata"].get("annotations") or {})
    # large things are beside the status
    rows = client.CoreV1Api(kubernetes).read_namespaced_config_map(status["resultsRef"], space.namespace)
    names = [r["candidate"] for r in results.read(kubernetes.sanitize_for_serialization(rows))]
    assert len(names) == len(set(names)) == 2 * (1 + 6 + 2)
    # a person sees it
    columns = subprocess.run(
        [simulating.programs.kubectl, "--kubeconfig", str(simulating.kubeconfig), "-n", space.namespace, "get", "aplan"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "Answered" in columns and status["recommendation"]["strategy"] in columns
    events = space.events()
    assert {"ProbeStarted", "ProbeSucceeded", "Answered"} <= set(events)
    assert events["Answered"] == status["recommendation"]["message"]
    # and from then on nothing is written: neither by resyncs nor by its own watch
    versions = [
        space.plan()["metadata"]["resourceVersion"],
        *(p["metadata"]["resourceVersion"] for p in space.probes()),
    ]
    time.sleep(7)  # two resyncs
    assert versions == [
        space.plan()["metadata"]["resourceVersion"],
        *(p["metadata"]["resourceVersion"] for p in space.probes()),
    ]


def test_edits_of_prices_objective_and_budget_decide_anew_without_a_job(operator: Operator, space: Namespace) -> None:
    space.prices("edited")
    for name in ("one", "two"):
        space.apply(plan(name, prices="edited", models=("ok",)))
    before = {name: space.answered(name, 90)["status"] for name in ("one", "two")}
    # the second found every measurement of the first, or the other way round, and paid for none twice
    keys = [p["metadata"]["name"] for p in space.probes()]
    jobs = {j["metadata"]["name"] for j in space.jobs()}
    assert len(jobs) == len(keys)
    assert before["one"]["recommendation"] == before["two"]["recommendation"]
    space.prices("edited", cpu="0.72")
    for name in ("one", "two"):
        dearer = Decimal(before[name]["recommendation"]["cost"]["total"]) * Decimal("1.9")
        until(lambda n=name, d=dearer: Decimal(space.plan(n)["status"]["recommendation"]["cost"]["total"]) > d, 20)
    space.edit("one", {"objective": {"minQuality": "0.999"}})
    impossible = until(lambda: _phase(space.plan("one"), "Infeasible"), 20)
    assert kstatus(impossible) == "Current" and conditions(impossible)["Feasible"][0] == "False"
    space.edit("two", {"budget": {"maxProbeCost": "0.5"}})
    until(lambda: space.plan("two")["status"]["observedGeneration"] == 2, 20)
    assert conditions(space.answered("two"))["Ready"][0] == "True"
    assert {j["metadata"]["name"] for j in space.jobs()} == jobs


def _phase(found: dict[str, Any], phase: str) -> dict[str, Any] | None:
    current = (found.get("status") or {}).get("observedGeneration") == found["metadata"]["generation"]
    return found if current and found["status"].get("phase") == phase else None


def test_a_second_plan_reuses_becomes_an_owner_and_keeps_what_the_first_paid(
    operator: Operator, space: Namespace
) -> None:
    space.prices("shared")
    space.apply(plan("first", prices="shared"))
    space.answered("first", 90)
    names = [p["metadata"]["name"] for p in space.probes()]
    space.apply(plan("second", prices="shared"))
    second = space.answered("second", 60)["status"]
    assert second["progress"]["reused"] == len(names) and second["spend"]["cost"] == "0"
    assert [p["metadata"]["name"] for p in space.probes()] == names and len(space.jobs()) == len(names)

    def owners() -> list[set[str]]:
        return [{r["name"] for r in p["metadata"]["ownerReferences"]} for p in space.probes()]

    until(lambda: all(o == {"first", "second"} for o in owners()), 10)
    space.delete("first")
    until(lambda: all(o == {"second"} for o in owners()), 30)
    assert [p["metadata"]["name"] for p in space.probes()] == names
    space.edit("second", {"objective": {"minQuality": "0.5"}})
    until(lambda: space.plan("second")["status"]["observedGeneration"] == 2, 20)
    assert space.answered("second")["status"]["spend"]["cost"] == "0"
    space.delete("second")
    until(lambda: not space.probes() and not space.jobs(), 30)


BAD = [
    ("strategy", {"strategies": [{"name": "magic", "type": "Alchemy"}]}, "Alchemy", {"strategies": plan()["spec"]["strategies"]}),
    ("rule", {"objective": {"goal": "MinimizeCost"}}, "spec.objective.minQuality", {"objective": {"minQuality": "0.6"}}),
    (
        "price",
        {"pricing": {"priceListRef": {"name": "nobody-wrote-it"}}},
        "there is no such PriceList",
        {"pricing": {"priceListRef": {"name": "shared"}}},
    ),
    (
        "accelerator",
        {"accelerators": [{"name": "h100"}]},
        "h100",
        {"accelerators": plan()["spec"]["accelerators"]},
    ),
    (
        "local",
        {"task": {"dataset": {"source": {"local": {"path": "/home/me/data.csv"}}}}},
        "a path of one machine",
        {"task": {"dataset": {"source": {"local": None, **plan()["spec"]["task"]["dataset"]["source"]}}}},
    ),
]  # fmt: skip


def test_what_the_server_takes_and_nobody_can_use_is_said_at_once_and_a_fix_clears_it(
    operator: Operator, space: Namespace
) -> None:
    space.prices("shared")
    told: dict[str, float] = {}
    crowded = [crowding()]
    for name, spec, sentence, _ in BAD:
        begun = time.monotonic()
        try:
            space.apply(plan(name, prices="shared", **spec))
        except client.ApiException as error:
            assert error.status == 422, error  # a server with CEL says it itself
            continue
        found = until(lambda n=name: stalled(space.plan(n)), 20, every=0.02)
        told[name] = time.monotonic() - begun
        crowded.append(crowding())
        said = conditions(found)
        assert kstatus(found) == "Failed" and said["Validated"][0] == "False" and sentence in said["Stalled"][2], said
        assert sentence in " ".join(until(lambda n=name: space.events(n), 5).values())
    assert len(told) >= 3 and sorted(told.values())[len(told) // 2] < 2.0 * max(crowded), (told, crowded)
    for name, _, _, fix in BAD:
        if name in told:
            space.edit(name, fix)
    for name in told:
        space.answered(name, 150)


def test_suspended_nothing_new_starts_and_what_runs_ends(
    operator: Operator, simulating: Cluster, space: Namespace
) -> None:
    space.prices("shared")
    gate = space.gate(simulating)
    space.apply(plan("asleep", prices="shared", suspend=True))
    probing = {"deadlineSeconds": 600, "parallelism": 1}
    space.apply(plan(prices="shared", models=("gate",), probing=probing, modelCache={"claimName": "gate"}))
    until(lambda: len(space.running()) == 1, 30)
    space.edit("plan", {"suspend": True})
    suspended = until(lambda: _phase(space.plan(), "Suspended"), 60)
    assert kstatus(suspended) in ("Current", "InProgress")
    gate.touch()
    until(lambda: kstatus(space.plan()) == "Current", 60)
    assert len(space.jobs()) == 1 and space.probes()[0]["status"]["phase"] == "Succeeded"
    asleep = conditions(space.plan("asleep"))
    assert asleep["Reconciling"][:2] == ("False", "Suspended") and "Ready" not in asleep
    space.edit("plan", {"suspend": False, "objective": {"minQuality": "0.3"}})
    until(lambda: _phase(space.plan(), "Answered"), 90)


def test_deleted_in_the_middle_nothing_is_left(operator: Operator, space: Namespace) -> None:
    space.prices("shared")
    space.apply(plan("doomed", prices="shared", models=("sleep-30", "sleep-31")))
    until(lambda: any(p["status"].get("phase") == "Running" for p in space.pods()), 40)
    series = f'namespace="{space.namespace}",plan="doomed"'
    until(lambda: any(series in name for name in operator.metrics()), 10)
    space.delete("doomed")
    until(lambda: not space.jobs() and not space.probes() and not space.pods(), 60)
    until(lambda: not any(series in name for name in operator.metrics()), 10)


def test_time_limits(operator: Operator, space: Namespace) -> None:
    space.prices("shared")
    space.apply(plan("kept", prices="shared", ttlSecondsAfterFinished=600))
    space.apply(plan("brief", prices="shared", ttlSecondsAfterFinished=2))
    # each probe takes 3 s, one at a time: after 4 s nothing more may start
    slow = plan("late", prices="shared", models=("sleep-3", "ok"), activeDeadlineSeconds=4)
    slow["spec"]["probing"]["parallelism"] = 1
    slow["spec"]["task"]["dataset"]["source"]["huggingFace"]["revision"] = "other"
    space.apply(slow)
    late = space.settled("late", 90)
    assert len(late["status"]["conditions"]) == 7 and late["status"]["progress"]["planned"] <= 2, late["status"]
    until(lambda: space.gone("brief"), 90)
    assert not space.gone("kept")


def test_metrics_and_health(operator: Operator, space: Namespace) -> None:
    space.prices("shared")
    space.apply(plan(prices="shared"))
    space.answered(seconds=90)
    found = operator.metrics()
    mine = f'namespace="{space.namespace}",plan="plan"'
    assert found[f"orrery_plan_budget{{{mine}}}"] == 1 and found[f"orrery_plan_spent{{{mine}}}"] > 0
    assert found[f'orrery_plan_condition{{{mine},status="True",type="Ready"}}'] == 1
    assert found["orrery_lease_held"] == 1 and found["orrery_reconcile_seconds_count"] > 0
    assert found["orrery_probe_queue_wait_seconds_count"] > 0
    assert any(n.startswith("orrery_build_info") for n in found)
    assert any(n.startswith("orrery_watch_last_event_age_seconds") for n in found)
    assert operator.health() == {"code": 200, "healthy": True, "leading": True, "problems": []}
    # all of the above, with the chart's account: refused was only what namespaces refuse that are being deleted
    refused = [line for line in operator.log.read_text().splitlines() if "is forbidden" in line]
    assert all("because it is being terminated" in line for line in refused), refused
    assert IMAGE in space.plan()["status"]["inputs"]["image"]
