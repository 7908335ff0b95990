"""Prometheus metrics of the operator: base units, no label whose values a plan can multiply.

A plan's own series carry its namespace and name, never its candidates, and go when the plan goes. Amounts are in the price
list's currency, one an operator: a currency label would break every sum. What OpenCost and kube-state-metrics call by a name is
called so here (``..._hourly_cost``, ``namespace``, ``label_team``), so that their queries and ours can be joined.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

import orrery
from orrery.api.adaptation_budget import AdaptationBudgetSpec, AdaptationBudgetStatus
from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.probe import Attempt
from orrery.api.status import PlanStatus
from orrery.controller.attempts import Accelerated, parse_timestamp
from orrery.controller.plan_series import PlanSeries, Series
from orrery.controller.world import WATCHED, Key

_SECONDS = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400)
_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_STATES = ("queued", "running", "succeeded", "failed", "reused")


class Metrics:
    """All series, in a registry of their own; thread-safe as prometheus_client is."""

    def __init__(self, registry: CollectorRegistry | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = registry or CollectorRegistry()
        self._clock = clock
        self._lock = threading.Lock()
        self._accounts: dict[Key, set[tuple[Gauge, tuple[str, ...]]]] = defaultdict(set)
        self._hourly: dict[str, set[tuple[str, ...]]] = {}
        # a watch that has shown nothing yet is as silent as one that died, from the start of the process
        self._watched = dict.fromkeys((resource.plural for resource in WATCHED), clock())
        r = self.registry
        self._plans = PlanSeries(r)

        def gauge(name: str, text: str, *labels: str) -> str:
            return self._plans.gauge(f"orrery_{name}", text, *labels)

        self.condition = gauge("plan_condition", "1 for the status each condition has.", "type", "status")
        self.budget = gauge("plan_budget", "Most that probing may cost, in the price list's currency.")
        self.reserved = gauge("plan_reserved", "Worst case of the probes in flight.")
        self.spent = gauge("plan_spent", "Paid for finished probe attempts.")
        self.confirmed = gauge("plan_confirmation_spent", "Paid for runs that confirm an answer; money of its own.")
        self.cost = gauge("plan_predicted_cost", "Total cost of the recommendation over the horizon.", "bound")
        self.quality = gauge("plan_predicted_quality", "Quality of the recommendation, in the metric's unit.", "bound")
        self.probes = gauge("plan_probes", "Probes of the plan by state.", "state")
        self.labels = gauge("plan_labels", "1; the plan's label `team`, as kube_namespace_labels has it.", "label_team")
        account = ["namespace", "budget", "amount"]
        self.account_money = Gauge(
            "orrery_namespace_budget", "Of an AdaptationBudget's month: limit, spent, reserved.", account, registry=r
        )
        self.account_seconds = Gauge(
            "orrery_namespace_budget_accelerator_seconds", "The same in accelerator time.", account, registry=r
        )
        self.error = gauge(
            "plan_prediction_error",
            "Measured minus predicted quality, once the recommended candidate was measured in full.",
        )
        self.outcomes = Counter(
            "orrery_probe_attempts", "Probe attempts that ended.", ["namespace", "outcome"], registry=r
        )
        self.probe_cost = Counter("orrery_probe_cost", "Money paid for probe attempts.", ["namespace"], registry=r)
        self.accelerator = Counter(
            "orrery_probe_accelerator_seconds", "Used by probe attempts.", ["accelerator", "capacity_type"], registry=r
        )
        self.probe_seconds = Histogram(
            "orrery_probe_seconds", "Wall time of probe attempts.", buckets=_SECONDS, registry=r
        )
        self.queue_wait = Histogram(
            "orrery_probe_queue_wait_seconds",
            "From reservation to the container's start.",
            buckets=_SECONDS,
            registry=r,
        )
        self.reconcile = Histogram("orrery_reconcile_seconds", "One look at one plan.", buckets=_FAST, registry=r)
        self.wake = Histogram(
            "orrery_wake_to_status_seconds",
            "From a plan's first wake to the end of its reconcile.",
            buckets=_FAST,
            registry=r,
        )
        self.errors = Counter(
            "orrery_reconcile_errors", "Reconciles that failed and come back.", ["reason"], registry=r
        )
        self.calls = Counter(
            "orrery_api_requests", "Requests to the API server.", ["verb", "resource", "code"], registry=r
        )
        self.queue = Gauge("orrery_queue_length", "Plans that wait to be looked at.", registry=r)
        self.leader = Gauge("orrery_lease_held", "1 while this operator holds its Lease.", registry=r)
        self.repaired = Counter(
            "orrery_watch_missed_changes", "Changes a list showed and no watch had.", ["resource"], registry=r
        )
        self.hourly = Gauge(
            "orrery_accelerator_hourly_cost",
            "Price of one accelerator for an hour, as node_gpu_hourly_cost.",
            ["price_list", "accelerator", "capacity_type"],
            registry=r,
        )
        self.overdue = Gauge(
            "orrery_watch_overdue_seconds",
            "Since a list showed the oldest change that the watch has not shown yet; 0 without one.",
            ["resource"],
            registry=r,
        )
        since = Gauge(
            "orrery_watch_last_event_age_seconds", "Since the last event, or the start.", ["resource"], registry=r
        )
        self._since = since
        Info("orrery_build", "Version of the operator.", registry=r).info({"version": orrery.__version__})

    # ---- plans

    def plan(self, plan: AdaptationPlan, status: PlanStatus) -> None:
        """Everything that a plan's status says in numbers."""
        key = (plan.metadata.namespace, plan.metadata.name)
        wanted = self._conditions(status)

        def put(gauge: str, value: Decimal | float, *labels: str) -> None:
            wanted[gauge, *labels] = float(value)

        put(self.budget, plan.spec.budget.max_probe_cost)
        put(self.labels, 1, str(((plan.metadata.model_extra or {}).get("labels") or {}).get("team", "")))
        if status.spend:
            put(self.spent, status.spend.cost)
            put(self.reserved, status.spend.reserved)
        if status.confirmation:
            put(self.confirmed, status.confirmation.spent)
        if status.progress:
            for state in _STATES:
                put(self.probes, getattr(status.progress, state), state)
        if best := status.recommendation:
            for bound in ("predicted", "lower", "upper"):
                put(self.quality, getattr(best.quality, bound), bound)
            for bound, amount in (
                ("predicted", best.cost.total),
                ("lower", best.cost.lower),
                ("upper", best.cost.upper),
            ):
                put(self.cost, amount, bound)
        error = status.prediction_error
        if status.confirmation and status.confirmation.error is not None:
            error = status.confirmation.error
        if error is not None:
            put(self.error, error)
        self._plans.put(key, wanted)

    def _conditions(self, status: PlanStatus) -> dict[Series, float]:
        return {
            (self.condition, condition.type, value): 1.0 if condition.status == value else 0.0
            for condition in status.conditions
            for value in ("True", "False", "Unknown")
        }

    def account(self, key: Key, spec: AdaptationBudgetSpec, status: AdaptationBudgetStatus) -> None:
        """The account of a namespace's budget; without a cap there is no limit."""
        money = {"limit": spec.max_probe_cost, "spent": status.spent, "reserved": status.reserved}
        seconds = {
            "limit": spec.max_accelerator_seconds,
            "spent": status.spent_accelerator_seconds,
            "reserved": status.reserved_accelerator_seconds,
        }
        with self._lock:
            for gauge, amounts in ((self.account_money, money), (self.account_seconds, seconds)):
                for amount, value in amounts.items():
                    labels = (*key, amount)
                    if value is not None:
                        gauge.labels(*labels).set(float(value))
                        self._accounts[key].add((gauge, labels))
                    elif (gauge, labels) in self._accounts[key]:
                        gauge.remove(*labels)
                        self._accounts[key].discard((gauge, labels))

    def forget_budgets(self, namespace: str, but: Sequence[str]) -> None:
        """Drop the series of budgets of a namespace that are gone."""
        with self._lock:
            for key in [k for k in self._accounts if k[0] == namespace and k[1] not in but]:
                for gauge, labels in self._accounts.pop(key):
                    gauge.remove(*labels)

    def stalled(self, key: Key, status: PlanStatus) -> None:
        """A plan that could not be decided on: its conditions change, what was spent and answered before stays."""
        self._plans.add(key, self._conditions(status))

    def prices(self, price_list: PriceList) -> None:
        """What an hour costs, of a price list that a plan was decided with; prices that it no longer has go."""
        name = price_list.metadata.name
        wanted: set[tuple[str, ...]] = set()
        with self._lock:
            for price in price_list.spec.accelerators:
                of = (name, price.name, price.capacity_type.value)
                wanted.add(of)
                self.hourly.labels(*of).set(float(price.price_per_hour))
            for labels in self._hourly.get(name, set()) - wanted:
                self.hourly.remove(*labels)
            self._hourly[name] = wanted

    def forget_prices(self, price_list: str) -> None:
        """A price list is gone, cannot be read, or was edited while no plan refers to it: its prices are not to be told."""
        with self._lock:
            for labels in self._hourly.pop(price_list, set()):
                self.hourly.remove(*labels)

    def forget(self, key: Key) -> None:
        """Drop the series of a plan that is gone."""
        self._plans.forget(key)

    def attempt_ended(self, namespace: str, accelerator: Accelerated, attempt: Attempt) -> None:
        """Count what an attempt cost and how it ended."""
        self.outcomes.labels(namespace, attempt.reason or attempt.phase).inc()
        self.probe_cost.labels(namespace).inc(float(attempt.cost or 0))
        used = float(attempt.seconds or 0)
        self.accelerator.labels(accelerator.name, accelerator.capacity_type).inc(used)
        self.probe_seconds.observe(used / accelerator.count)
        reserved, started = parse_timestamp(attempt.reserved_at), parse_timestamp(attempt.started_at)
        if reserved is not None and started is not None:
            self.queue_wait.observe(max(0.0, (started - reserved).total_seconds()))

    # ---- the operator itself

    def api_call(self, verb: str, resource: str, status: int) -> None:
        """Count a request."""
        self.calls.labels(verb, resource, str(status)).inc()

    def watched(self, resource: str) -> None:
        """A watch event came."""
        self._watched[resource] = self._clock()

    def refresh(self, queued: int, leading: bool, overdue: Mapping[str, float]) -> None:
        """Bring the gauges that are read off a clock up to date; called before a scrape. ``overdue``: seconds by resource."""
        now = self._clock()
        for resource, seconds in overdue.items():
            self.overdue.labels(resource).set(seconds)
        for resource, at in list(self._watched.items()):
            self._since.labels(resource).set(now - at)
        self.queue.set(queued)
        self.leader.set(leading)
