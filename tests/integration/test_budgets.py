"""AdaptationBudgets on a real API server: several plans at once never pass a cap, and go on when there is room again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from kubernetes.watch import Watch

from tests.cluster import Cluster
from tests.integration.operators import GROUP, VERSION, Namespace, Operator, conditions, kstatus, plan
from tests.waiting import until

pytestmark = pytest.mark.integration


def budget(space: Namespace, name: str = "month", **spec: Any) -> None:
    body = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "AdaptationBudget",
        "metadata": {"name": name},
        "spec": {"currency": "USD", **spec},
    }
    space.custom.create_namespaced_custom_object(GROUP, VERSION, space.namespace, "adaptationbudgets", body)


def raised(space: Namespace, name: str = "month", **spec: Any) -> None:
    space.custom.patch_namespaced_custom_object(
        GROUP, VERSION, space.namespace, "adaptationbudgets", name, {"spec": spec}
    )


def told(space: Namespace, name: str = "month") -> dict[str, Any]:
    found = space.custom.get_namespaced_custom_object(GROUP, VERSION, space.namespace, "adaptationbudgets", name)
    return dict(found.get("status") or {})


def committed(space: Namespace) -> Decimal:
    """What all attempts of the namespace cost, or may still cost."""
    return sum((_of_probe(p) for p in space.probes()), Decimal(0))


def _of_probe(probe: dict[str, Any]) -> Decimal:
    attempts = (probe.get("status") or {}).get("attempts") or []
    return sum((Decimal(a.get("cost", a["reserved"])) for a in attempts), Decimal(0))


def _of_budget(budget: dict[str, Any]) -> Decimal:
    status = budget.get("status") or {}
    return Decimal(status.get("spent", "0")) + Decimal(status.get("reserved", "0"))


class Commitments:
    """What was committed after every single change that the server took, by the probes and by the budget's own account.

    By watches, which miss no state however short: a thread that lists as fast as it can sees less of them, and costs more
    than all else on the server.
    """

    def __init__(self, space: Namespace) -> None:
        self.space = space
        self.probes: list[Decimal] = [Decimal(0)]
        self.accounts: list[Decimal] = [Decimal(0)]
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, args=("adaptationprobes", _of_probe, self.probes)),
            threading.Thread(target=self._follow, args=("adaptationbudgets", _of_budget, self.accounts)),
        ]

    def __enter__(self) -> Commitments:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Once both have seen what there is now."""
        try:
            until(lambda: self.probes[-1] == committed(self.space), 20)
            until(lambda: self.accounts[-1] == _of_budget({"status": told(self.space)}), 20)
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()

    def _follow(self, plural: str, amount: Callable[[dict[str, Any]], Decimal], seen: list[Decimal]) -> None:
        lists = self.space.custom.list_namespaced_custom_object
        held: dict[str, Decimal] = {}
        where, version = (GROUP, VERSION, self.space.namespace, plural), None
        while not self._over.is_set():
            for event in Watch().stream(lists, *where, resource_version=version, timeout_seconds=2):
                found, version = event["object"], event["object"]["metadata"]["resourceVersion"]
                held[found["metadata"]["name"]] = Decimal(0) if event["type"] == "DELETED" else amount(found)
                seen.append(sum(held.values(), Decimal(0)))


def waits(found: dict[str, Any], reason: str) -> bool:
    said = conditions(found)
    return bool(said) and said["BudgetAvailable"][:2] == ("False", reason)


def test_plans_at_once_share_a_cap_and_go_on_when_it_is_raised(operator: Operator, space: Namespace) -> None:
    space.prices("budgets")
    # a probe reserves at least 120 s x 0.36 an hour, 0.012: three fit at a time, and what they cost is far less
    budget(space, maxProbeCost="0.04")
    until(lambda: told(space).get("observedGeneration") == 1, 20)
    names = [f"plan-{i}" for i in range(6)]
    with Commitments(space) as seen:
        for i, name in enumerate(names):
            other = {"dataset": {"source": {"huggingFace": {"repo": "sim/data", "revision": f"r{i}"}}}}
            space.apply(plan(name, prices="budgets", models=("sleep-1", "sleep-1"), task=other))
        # what ends costs a hundredth of what it reserved, so all of them get their turn
        for name in names:
            space.answered(name, 180)
    assert max(seen.probes) <= Decimal("0.04") and max(seen.accounts) <= Decimal("0.04")
    assert max(seen.accounts) >= Decimal("0.024"), "they did run beside each other"
    spent = sum(Decimal(space.plan(name)["status"]["spend"]["cost"]) for name in names)
    settled = until(lambda: (s := told(space)).get("reserved") == "0" and s, 20)
    assert (Decimal(settled["spent"]) == spent == committed(space) and "holds" not in settled) or settled["holds"] == []
    metrics = operator.metrics()
    label = f'{{amount="spent",budget="month",namespace="{space.namespace}"}}'
    assert metrics[f"orrery_namespace_budget{label}"] == float(spent)
    # what is left does not reserve for another probe; the month as a whole would
    assert spent > Decimal("0.002")
    raised(space, maxProbeCost="0.0135")
    until(lambda: told(space).get("observedGeneration") == 2, 20)
    other = {"dataset": {"source": {"huggingFace": {"repo": "sim/data", "revision": "later"}}}}
    jobs = len(space.jobs())
    space.apply(plan("late", prices="budgets", task=other))
    found = until(lambda: (p := space.plan("late")) and waits(p, "NamespaceBudgetExhausted") and p, 20)
    sentence = conditions(found)["BudgetAvailable"][2]
    assert kstatus(found) == "InProgress" and conditions(found)["Reconciling"][1] == "NamespaceBudgetExhausted"
    assert "'month'" in sentence and "it renews at" in sentence and "goes on by itself" in sentence
    assert found["status"]["spend"]["reserved"] == "0" and len(space.jobs()) == jobs
    raised(space, maxProbeCost="1")
    until(lambda: kstatus(space.plan("late")) == "Current", 60)
    assert conditions(space.plan("late"))["BudgetAvailable"][0] == "True"


def test_what_was_spent_stays_spent_when_plans_are_deleted(operator: Operator, space: Namespace) -> None:
    space.prices("budgets")
    budget(space, maxProbeCost="0.05", maxAcceleratorSeconds=100_000)
    space.apply(plan("first", prices="budgets"))
    space.answered("first", 90)
    spent = until(lambda: (s := told(space)).get("reserved") == "0" and Decimal(s["spent"]), 20)
    assert spent == committed(space)
    space.delete("first")
    until(lambda: not space.probes(), 30)
    time.sleep(4)  # a resync
    assert Decimal(told(space)["spent"]) == spent
    # the same measured again is paid again
    space.apply(plan("second", prices="budgets"))
    space.answered("second", 90)
    until(lambda: Decimal(told(space)["spent"]) == spent + committed(space) and told(space)["reserved"] == "0", 20)


def test_a_cap_that_no_month_can_meet_and_a_foreign_currency_are_said(operator: Operator, space: Namespace) -> None:
    space.prices("budgets")
    budget(space, maxAcceleratorSeconds=60)
    space.apply(plan(prices="budgets"))
    found = until(lambda: (p := space.plan()) and waits(p, "NamespaceBudgetTooSmall") and p, 20)
    assert kstatus(found) == "Failed" and "allows 60 accelerator-seconds a month" in conditions(found)["Stalled"][2]
    assert not space.jobs()
    raised(space, currency="EUR", maxAcceleratorSeconds=100_000)
    found = until(lambda: (p := space.plan()) and waits(p, "BudgetCurrencyMismatch") and p, 20)
    assert "is in EUR and the plan's price list in USD" in conditions(found)["Stalled"][2] and not space.jobs()
    raised(space, currency="USD")
    until(lambda: kstatus(space.plan()) == "Current", 60)
    columns = space.custom.list_namespaced_custom_object(GROUP, VERSION, space.namespace, "adaptationbudgets")["items"]
    assert [c["status"] for c in columns[0]["status"]["conditions"]] == ["True", "True"]


def test_every_budget_of_a_namespace_holds_and_a_deleted_one_does_not(operator: Operator, space: Namespace) -> None:
    space.prices("budgets")
    budget(space, "ample", maxProbeCost="100")
    budget(space, "scant", maxProbeCost="0.001")
    space.apply(plan(prices="budgets"))
    found = until(lambda: (p := space.plan()) and waits(p, "NamespaceBudgetTooSmall") and p, 20)
    assert "'scant'" in conditions(found)["BudgetAvailable"][2]
    assert Decimal(told(space, "ample").get("reserved", "0")) == 0, "what the other refused is given back"
    space.custom.delete_namespaced_custom_object(GROUP, VERSION, space.namespace, "adaptationbudgets", "scant")
    until(lambda: kstatus(space.plan()) == "Current", 60)
    assert Decimal(told(space, "ample")["spent"]) > 0


def test_an_operator_that_is_killed_over_and_over_keeps_the_account(
    simulating: Cluster, space: Namespace, tmp_path: Path
) -> None:
    space.prices("budgets")
    budget(space, maxProbeCost="0.04")
    own = {"ORRERY_OWN_NAMESPACE": space.namespace, "ORRERY_NAMESPACE": space.namespace, "ORRERY_LEASE_SECONDS": "3"}
    running = Operator(simulating.kubeconfig, tmp_path, void_seconds=20, **own)
    with Commitments(space) as seen:
        for i in range(4):
            other = {"dataset": {"source": {"huggingFace": {"repo": "sim/data", "revision": f"k{i}"}}}}
            space.apply(plan(f"plan-{i}", prices="budgets", models=("sleep-1", "sleep-1"), task=other))
        for pause in (0.4, 1.1, 1.9):
            running.start()
            time.sleep(pause)
            running.kill()
        with running:
            for i in range(4):
                space.answered(f"plan-{i}", 240)
            until(lambda: told(space).get("reserved") == "0", 120)
    assert max(seen.probes) <= Decimal("0.04") and max(seen.accounts) <= Decimal("0.04")
    assert Decimal(told(space)["spent"]) >= committed(space)
