"""Gauges of plans, kept as one small table a plan: a thousand plans have forty thousand series.

As objects of their own, as a client's gauge keeps them, those would be thirty mebibytes, and each write of a status would look
every one of them up.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from orrery.controller.world import Key

Series = tuple[str, ...]  #: a gauge's name, then the values of its own labels


class PlanSeries(Collector):
    """Numbers of plans by gauge and labels, told at every scrape; safe to call from any thread.

    >>> from prometheus_client import CollectorRegistry
    >>> registry = CollectorRegistry()
    >>> series = PlanSeries(registry)
    >>> states = series.gauge("orrery_plan_probes", "Probes of the plan by state.", "state")
    >>> series.put(("team-a", "support"), {(states, "running"): 3})
    >>> registry.get_sample_value(states, {"namespace": "team-a", "plan": "support", "state": "running"})
    3.0
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lock = threading.Lock()
        self._gauges: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._plans: dict[Key, dict[Series, float]] = {}  # a table is replaced, never changed
        self._names: dict[Series, Series] = {}  # one tuple for the same series of all plans
        registry.register(self)

    def gauge(self, name: str, text: str, *labels: str) -> str:
        """A gauge with these labels beside the plan's namespace and name; gives its name."""
        self._gauges[name] = (text, ("namespace", "plan", *labels))
        return name

    def put(self, key: Key, table: Mapping[Series, float]) -> None:
        """Everything that is told of a plan; what it had before and has no more is not told any longer."""
        with self._lock:
            self._plans[key] = {self._names.setdefault(series, series): float(table[series]) for series in table}

    def add(self, key: Key, table: Mapping[Series, float]) -> None:
        """Tell this of a plan, and what was told before."""
        with self._lock:
            before = self._plans.get(key, {})
        self.put(key, {**before, **table})

    def forget(self, key: Key) -> None:
        """The plan is gone."""
        with self._lock:
            self._plans.pop(key, None)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All gauges."""
        with self._lock:
            plans = sorted(self._plans.items())
        found = {name: GaugeMetricFamily(name, text, labels=labels) for name, (text, labels) in self._gauges.items()}
        for key, table in plans:
            for (name, *labels), number in table.items():
                found[name].add_metric([*key, *labels], number)
        yield from found.values()
