"""What every designer sees of a step, and how trials become probes: priced, packed by model, reserved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from orrery.api.plan import PlanSpec
from orrery.api.probe import ProbeSpec, Trial, probe_name
from orrery.costs.prices import Prices
from orrery.costs.throughput import WorkKind
from orrery.laws.posterior import Z90
from orrery.planning.candidates import Space
from orrery.planning.decision import Decision
from orrery.planning.evidence import Known
from orrery.planning.forecasts import Clock, Columns, Groups
from orrery.planning.gates import admitted
from orrery.planning.reservation import Purse, deadline, expected, reservation, tightest
from orrery.planning.types import ProbeRequest
from orrery.strategies import registry

#: A batch grows while its further trials take at most this many loads: more would be better decided after the first results.
LOADS_PER_BATCH = 4.0
#: More trials than this would not fit their items into one report.
MOST_TRIALS = 16


@dataclass(frozen=True)
class Option:
    """A trial that could be run, where, and for how long without loading the model."""

    model: str
    accelerator: str
    trial: Trial
    seconds: float
    upper_seconds: float


@dataclass(frozen=True)
class Scene:
    """One step as a designer sees it."""

    spec: PlanSpec
    space: Space
    known: Known
    groups: Groups
    clock: Clock
    prices: Prices
    columns: Columns
    decision: Decision
    exhaustive_cost: float
    searched: float  #: FLOPs measured so far over those of the exhaustive search, whoever paid for them
    _where: dict[tuple[str, str], str | None] = field(default_factory=dict)

    @cached_property
    def open(self) -> NDArray[np.bool_]:
        """(N,) candidates that nothing rejects."""
        return admitted(self.columns.rejected)

    def price(self, accelerator: str) -> Decimal:
        """Money for a second of all accelerators of a probe."""
        return self.prices.per_second(next(a for a in self.spec.accelerators if a.name == accelerator))

    def count(self, accelerator: str) -> int:
        """Accelerators a probe uses."""
        return next(a.count for a in self.spec.accelerators if a.name == accelerator)

    def load(self, o: Option) -> float:
        """Seconds to load the option's model."""
        return self.clock.load_seconds(o.model, o.accelerator)

    def cost(self, o: Option, *, load: bool) -> float:
        """Expected money of an option, with or without loading its model; never nothing."""
        return max((o.seconds + (self.load(o) if load else 0.0)) * float(self.price(o.accelerator)), 1e-12)

    def accelerator(self, model: str, strategy: str) -> str | None:
        """The first accelerator on which some configuration of a strategy is not rejected; zero-shot runs with any."""
        key = model, strategy
        if key not in self._where:
            groups = [
                g
                for g, group in enumerate(self.space.groups)
                if group.model.name == model and (group.plugin.type == strategy or strategy == "ZeroShot")
            ]
            self._where[key] = next(
                (
                    accelerator.name
                    for a, accelerator in enumerate(self.space.accelerators)
                    if any(self.open[self.space.rows(g, a)].any() for g in groups)
                ),
                None,
            )
        return self._where[key]

    def option(
        self, model: str, accelerator: str, trial: Trial, inference: float, training: float, passes: float = 0.0
    ) -> Option:
        """A trial of so many FLOPs as an option, with a second of set-up; ``passes`` are its training's pass FLOPs."""
        plugin = registry.get(trial.strategy) if trial.strategy in registry.installed() else None
        kind = WorkKind.INFERENCE if plugin is None or plugin.training is None else WorkKind.of(plugin.training)
        mid = upper = 1.0
        for k, flops, wasted in ((WorkKind.INFERENCE, inference, 0.0), (kind, training, passes)):
            if flops > 0:
                p = self.clock.seconds(model, accelerator, k, np.array([flops]), np.array([wasted]))
                mid += float(np.exp(p.mean[0]))
                upper += float(np.exp(p.mean[0] + Z90 * p.sd[0]))
        return Option(model, accelerator, trial, mid, upper)


class Batch:
    """Trials of one model on one load, as far as the purse reserves and the plan's deadline allows."""

    def __init__(self, scene: Scene, purse: Purse, first: Option) -> None:
        self.scene, self.purse = scene, purse
        self.model, self.accelerator = first.model, first.accelerator
        self.options: list[Option] = []
        self.deadline = 0
        self._load = scene.load(first)
        self._upper, self._middle = 2.0 * self._load, self._load
        self._limit = scene.spec.probing.deadline_seconds
        self._affordable = purse.longest(scene.price(first.accelerator), scene.count(first.accelerator))
        self.spare = LOADS_PER_BATCH * self._load  #: seconds that further trials may take

    @property
    def full(self) -> bool:
        """Whether no report would hold more."""
        return len(self.options) >= MOST_TRIALS

    def add(self, o: Option) -> bool:
        """Takes a trial in if there is time and money for it.

        A first trial may run on a tight deadline, so that a small budget starts at all; a batch does not grow into one.
        """
        wanted = deadline(self._upper + o.upper_seconds, self._limit)
        least = tightest(self._middle + o.seconds, self._limit)
        if self.full or self._affordable < (wanted if self.options else least):
            return False
        self.spare -= o.seconds if self.options else 0.0
        self.deadline = min(wanted, self._affordable)
        self.options.append(o)
        self._upper, self._middle = self._upper + o.upper_seconds, self._middle + o.seconds
        return True

    def least(self, o: Option) -> Decimal:
        """The smallest reservation on which ``o`` alone would be started."""
        time = tightest(self._load + o.seconds, self._limit)
        return reservation(time, self.scene.price(self.accelerator))

    @property
    def seconds(self) -> float:
        """Expected seconds, load included."""
        return self._middle

    def request(self, why: str) -> ProbeRequest:
        """The probe, its reservation taken out of the purse; ``why`` goes into the reason."""
        price = self.scene.price(self.accelerator)
        spec = ProbeSpec(
            model=next(m for m in self.scene.spec.models if m.name == self.model),
            task=self.scene.spec.task,
            trials=[o.trial for o in self.options],
            accelerator=self.accelerator,
            deadline_seconds=self.deadline,
        )
        worst = reservation(self.deadline, price)
        cost = min(expected(self.seconds, price), worst)  # its deadline ends it
        self.purse.take(worst, self.deadline * self.scene.count(self.accelerator), new=True)
        kinds = ", ".join(dict.fromkeys(o.trial.strategy for o in self.options))
        return ProbeRequest(
            name=probe_name(spec),
            spec=spec,
            attempt=1,
            reservation=worst,
            expected_cost=cost,
            reason=f"{kinds} on {self.model} for {cost} {self.scene.prices.currency}: {why}",
        )


def busy(known: Known, start: Sequence[ProbeRequest]) -> set[str]:
    """Models that are being probed or about to be: they wait for their results."""
    return {m for m, _, _ in known.in_flight} | {r.spec.model.name for r in start}
