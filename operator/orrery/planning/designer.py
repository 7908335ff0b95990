"""Which probes to start next: most points per unit of money, until nothing is worth its price.

Greedy in two loops. The outer one starts a probe with the best trial anywhere; the inner one adds trials of the same model
to it while they are worth their marginal price, since a loaded model measures more for no further load. After each trial
its expected score is taken as seen (the "believer" of batch Bayesian optimisation), so that a batch does not ask the same
thing twice and trials in flight are not asked again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from orrery.api.plan import PlanSpec
from orrery.api.probe import Outcome, ProbeSpec, Trial, TrialResult, probe_name
from orrery.costs.prices import Prices
from orrery.costs.throughput import WorkKind
from orrery.laws.posterior import Array, Link, Posterior
from orrery.planning import value
from orrery.planning.candidates import Space
from orrery.planning.decision import Decision, decide, sense
from orrery.planning.evidence import Known
from orrery.planning.forecasts import Clock, Columns, Groups
from orrery.planning.gates import admitted
from orrery.planning.reservation import Purse, deadline, expected, reservation, tightest
from orrery.planning.types import ProbeRequest
from orrery.strategies import registry
from orrery.strategies.base import Evidence, Proposal
from orrery.strategies.trials import Identity, identity

#: Points that spending as much as the exhaustive search must bring: a probe of one percent of it must bring .4 points.
POINTS_FOR_EXHAUSTIVE = 40.0
#: Share of the exhaustive search's work after which points must be twice as many for the same money. The value of a probe
#: is the best of many uncertain gains, so a long search among near equals promises more than it finds.
COMFORTABLE_SHARE = 0.15
#: Below this expected gain nothing is probed, however cheap.
LEAST_POINTS = 0.05
#: A batch grows while its trials take at most this many loads: more would be better decided after the first results.
LOADS_PER_BATCH = 4.0
#: Quantile of a probe's seconds that its deadline is set by.
_UPPER = 1.645
_MOST_TRIALS = 16


@dataclass(frozen=True)
class Option:
    """A trial that could be run, where, for how long, and what it is worth."""

    model: str
    accelerator: str
    trial: Trial
    seconds: float  #: without loading
    upper_seconds: float
    worth: value.Worth
    expected_score: float | None


@dataclass(frozen=True)
class _Assembled:
    """The options of one model, not yet valued, and how far each would move its candidates (options, candidates)."""

    index: NDArray[np.intp]
    shifts: Array
    options: Sequence[Option]


@dataclass(frozen=True)
class Design:
    """What to start, and what the best remaining option was when nothing more was started."""

    start: Sequence[ProbeRequest]
    best: Option | None  #: best option that was considered, worth it or not
    worth_it: bool  #: an option is worth its price (though perhaps not affordable now)
    unaffordable: Decimal | None  #: cheapest reservation of a worthwhile probe that did not fit the budget
    expected_seconds: float


@dataclass
class Designer:
    """Chooses probes for one step."""

    spec: PlanSpec
    space: Space
    known: Known
    groups: Groups
    clock: Clock
    prices: Prices
    columns: Columns
    exhaustive_cost: float
    searched: float  #: FLOPs measured so far over those of the exhaustive search, whoever paid for them
    _assembled: dict[tuple[str, int], _Assembled] = field(default_factory=dict)
    _posteriors: dict[tuple[int, int], Posterior] = field(default_factory=dict)
    _proposed: dict[tuple[int, int], Sequence[Proposal]] = field(default_factory=dict)

    def design(self, purse: Purse) -> Design:
        """The probes to start now, best first; takes their reservations out of ``purse``."""
        imagined: dict[str, list[Evidence]] = {}
        for model, accelerator, trial in self.known.in_flight:
            self._imagine(imagined, model, accelerator, trial, None)
        start: list[ProbeRequest] = []
        first: Option | None = None
        worth_it, unaffordable, total = False, None, 0.0
        busy = [m for m, _, _ in self.known.in_flight]
        closed: set[str] = set()  # models whose next probe does not fit the budget
        while True:
            columns, decision = self._believe(imagined)
            options = [o for o in self._options(columns, decision, imagined, set()) if o.model not in closed]
            best = self._best(options, busy)
            if first is None:
                first = best
            if best is None or not self._pays(best, load=True):
                best = self._unseen(options, busy, decision, imagined)
            if best is None:
                break
            worth_it = True
            if purse.slots < 1 or purse.probes_left < 1:
                break
            batch, time = self._batch(best, columns, decision, imagined, options, purse)
            if not batch:
                price = self._price(best.accelerator)
                cheapest = reservation(self._least(self._opening(best, options)), price)
                unaffordable = cheapest if unaffordable is None else min(unaffordable, cheapest)
                closed.add(best.model)
                continue
            request = self._request(best, batch, time)
            purse.take(request.reservation, request.spec.deadline_seconds * self._count(best.accelerator), new=True)
            start.append(request)
            busy.append(best.model)
            total += sum(o.seconds for o in batch) + self.clock.load_seconds(best.model, best.accelerator)
        return Design(start, first, worth_it, unaffordable, total)

    def _believe(self, imagined: dict[str, list[Evidence]]) -> tuple[Columns, Decision]:
        columns = self.columns
        if imagined:
            mean, sd = columns.quality.mean.copy(), columns.quality.sd.copy()
            for g, group in enumerate(self.space.groups):
                more = imagined.get(group.model.name)
                if more and group.refusal is None:
                    post = self._posterior(g, more)
                    for a in range(len(self.space.accelerators)):
                        rows = self.space.rows(g, a)
                        mean[rows], sd[rows] = post.mean, post.sd
            columns = _with_quality(columns, mean, sd)
        return columns, decide(self.spec.objective, self.spec.task.metric, columns)

    # Imagined evidence only ever grows while a step is designed, so its length identifies it.
    def _posterior(self, g: int, more: Sequence[Evidence]) -> Posterior:
        key = g, len(more)
        if key not in self._posteriors:
            plugin = self.space.groups[g].plugin
            self._posteriors[key] = plugin.forecast(self.groups.build(g, more)).posterior
        return self._posteriors[key]

    def _proposals(self, g: int, more: Sequence[Evidence]) -> Sequence[Proposal]:
        key = g, len(more)
        if key not in self._proposed:
            self._proposed[key] = self.space.groups[g].plugin.proposals(self.groups.build(g, more))
        return self._proposed[key]

    def _options(
        self,
        columns: Columns,
        decision: Decision,
        imagined: dict[str, list[Evidence]],
        only: set[str],
    ) -> list[Option]:
        """Every trial any strategy proposes, with its value over all candidates of its model."""
        stakes = value.stakes(self.spec.objective, columns, decision, sense(self.spec.task.metric))
        out: list[Option] = []
        for model in sorted({g.model.name for g in self.space.groups}):
            if (only and model not in only) or model in self.known.lost_models:
                continue
            out += self._model_options(model, stakes, columns, imagined.get(model, []))
        return out

    def _model_options(
        self, model: str, stakes: value.Stakes, columns: Columns, more: Sequence[Evidence]
    ) -> list[Option]:
        key = model, len(more)
        if key not in self._assembled:
            self._assembled[key] = self._assemble(model, columns, more)
        found = self._assembled[key]
        worths = value.worth(stakes, found.index, found.shifts)
        return [replace(o, worth=w) for o, w in zip(found.options, worths, strict=True)]

    def _assemble(self, model: str, columns: Columns, more: Sequence[Evidence]) -> _Assembled:
        """Merges the proposals of a model's groups by trial: one zero-shot bears on all of them."""
        places: list[NDArray[np.intp]] = []
        merged: dict[Identity, tuple[Proposal, dict[int, Array]]] = {}
        for g, group in enumerate(self.space.groups):
            if group.model.name != model or group.refusal is not None:
                continue
            rows = np.concatenate(
                [np.arange(len(self.space))[self.space.rows(g, a)] for a in range(len(self.space.accelerators))]
            )
            if not admitted(columns.rejected[rows]).any():
                continue
            place = len(places)
            places.append(rows)
            for proposal in self._proposals(g, more):
                kept = merged.setdefault(identity(proposal.trial), (proposal, {}))
                kept[1][place] = np.tile(proposal.shift, len(self.space.accelerators))
        blind = self.known.task_facts is None
        if blind and (more or any(not p.training_flops for p, _ in merged.values())):
            # Nobody knows how many training examples there are: what needs none comes first, and brings the number.
            merged = {k: v for k, v in merged.items() if not v[0].training_flops}
        index = np.concatenate(places) if places else np.zeros(0, dtype=np.intp)
        starts = np.cumsum([0, *[len(p) for p in places]])
        options: list[Option] = []
        shifts = np.zeros((len(merged), len(index)))
        for proposal, parts in merged.values():
            where = self._accelerator(model, proposal.trial, columns)
            if where is None:
                continue
            for place, shift in parts.items():
                shifts[len(options), starts[place] : starts[place + 1]] = shift
            seconds, upper = self._seconds(model, where, proposal)
            nothing = value.Worth(0.0, 0.0, 0.0)
            options.append(Option(model, where, proposal.trial, seconds, upper, nothing, proposal.expected_score))
        return _Assembled(index, shifts[: len(options)], options)

    def _accelerator(self, model: str, trial: Trial, columns: Columns) -> str | None:
        """The first accelerator on which some configuration of the trial's strategy is not rejected."""
        groups = [
            g
            for g, group in enumerate(self.space.groups)
            if group.model.name == model and (group.plugin.type == trial.strategy or trial.strategy == "ZeroShot")
        ]
        for a, accelerator in enumerate(self.space.accelerators):
            if any(admitted(columns.rejected[self.space.rows(g, a)]).any() for g in groups):
                return accelerator.name
        return None

    def _seconds(self, model: str, accelerator: str, proposal: Proposal) -> tuple[float, float]:
        strategy = proposal.trial.strategy
        training = registry.get(strategy).training if strategy in registry.installed() else None
        kind = WorkKind.of(training) if training is not None else WorkKind.INFERENCE
        parts = [(WorkKind.INFERENCE, proposal.inference_flops), (kind, proposal.training_flops)]
        mid = upper = 1.0  # a second of set-up for each trial
        for k, flops in parts:
            if flops > 0:
                p = self.clock.seconds(model, accelerator, k, np.array([flops]))
                mid += float(np.exp(p.mean[0]))
                upper += float(np.exp(p.mean[0] + _UPPER * p.sd[0]))
        return mid, upper

    def _best(self, options: Sequence[Option], busy: Sequence[str]) -> Option | None:
        """Most points per unit of money, load included; a model that is being probed waits for its results."""
        ranked = [o for o in options if o.model not in busy and o.worth.points > 0]
        return max(ranked, key=lambda o: (self._rate(o, load=True), o.trial.name), default=None)

    def _unseen(
        self,
        options: Sequence[Option],
        busy: Sequence[str],
        decision: Decision,
        imagined: dict[str, list[Evidence]],
    ) -> Option | None:
        """A trial of the present choice's model when that was never measured: no answer rests on priors alone."""
        favourite = decision.chosen if decision.chosen is not None else decision.nearest
        if favourite is None:
            return None
        model = self.space.groups[self.space.group[favourite]].model.name
        if self.known.evidence.get(model) or imagined.get(model):
            return None
        return self._best([o for o in options if o.model == model], busy)

    def _rate(self, o: Option, *, load: bool) -> float:
        return o.worth.points / max(self._cost(o, load=load), 1e-12)

    def _cost(self, o: Option, *, load: bool) -> float:
        seconds = o.seconds + (self.clock.load_seconds(o.model, o.accelerator) if load else 0.0)
        return seconds * max(float(self._price(o.accelerator)), 1e-12)

    def _pays(self, o: Option, *, load: bool) -> bool:
        """Whether a trial brings more points than its share of the exhaustive search's cost asks for."""
        share = self._cost(o, load=load) / max(self.exhaustive_cost, 1e-12)
        asked = POINTS_FOR_EXHAUSTIVE * (1 + (self.searched / COMFORTABLE_SHARE) ** 2)
        return o.worth.points >= LEAST_POINTS and o.worth.points >= asked * share

    def _batch(
        self,
        best: Option,
        columns: Columns,
        decision: Decision,
        imagined: dict[str, list[Evidence]],
        options: Sequence[Option],
        purse: Purse,
    ) -> tuple[list[Option], int]:
        """``best`` and what else is worth measuring from the same load, as far as the budget reserves; its deadline."""
        load = self.clock.load_seconds(best.model, best.accelerator)
        limit = self.spec.probing.deadline_seconds
        affordable = purse.longest(self._price(best.accelerator), self._count(best.accelerator))
        batch: list[Option] = []
        upper, middle, time = 2.0 * load, load, 0
        spare = LOADS_PER_BATCH * load
        candidate: Option | None = self._opening(best, options)
        while candidate is not None:
            wanted = deadline(upper + candidate.upper_seconds, limit)
            least = tightest(middle + candidate.seconds, limit)
            # A first trial may run on a tight deadline, so that a small budget starts at all; a batch does not grow into one.
            if affordable < (wanted if batch else least):
                break
            time = min(wanted, affordable)
            batch.append(candidate)
            upper, middle = upper + candidate.upper_seconds, middle + candidate.seconds
            self._imagine(imagined, best.model, best.accelerator, candidate.trial, candidate.expected_score)
            spare -= candidate.seconds if len(batch) > 1 else 0.0
            if len(batch) >= _MOST_TRIALS:
                break
            columns, decision = self._believe(imagined)
            left = [
                o
                for o in self._options(columns, decision, imagined, {best.model})
                if o.accelerator == best.accelerator and o.seconds <= spare and self._pays(o, load=False)
            ]
            candidate = max(left, key=lambda o: (self._rate(o, load=False), o.trial.name), default=None)
        return batch, time

    def _opening(self, best: Option, options: Sequence[Option]) -> Option:
        """A model's first trial is the model as it is, where the plan can ask that: everything else is read against it.

        It is cheap, bears on every strategy, and tells whether adapting hurts.
        """
        if self.known.evidence.get(best.model):
            return best
        plain = (o for o in options if o.model == best.model and o.trial.strategy == "ZeroShot")
        return next(plain, best)

    def _least(self, o: Option) -> int:
        """The shortest deadline on which an option would be started."""
        load = self.clock.load_seconds(o.model, o.accelerator)
        return tightest(load + o.seconds, self.spec.probing.deadline_seconds)

    def _request(self, best: Option, batch: Sequence[Option], time: int) -> ProbeRequest:
        model = next(m for m in self.spec.models if m.name == best.model)
        spec = ProbeSpec(
            model=model,
            task=self.spec.task,
            trials=[o.trial for o in batch],
            accelerator=best.accelerator,
            deadline_seconds=time,
        )
        price = self._price(best.accelerator)
        seconds = sum(o.seconds for o in batch) + self.clock.load_seconds(best.model, best.accelerator)
        cost = expected(seconds, price)
        top = max(batch, key=lambda o: o.worth.points)
        kinds = ", ".join(dict.fromkeys(o.trial.strategy for o in batch))
        return ProbeRequest(
            name=probe_name(spec),
            spec=spec,
            attempt=1,
            reservation=reservation(spec.deadline_seconds, price),
            expected_cost=cost,
            reason=(
                f"{kinds} on {best.model} for {cost} {self.prices.currency}: improves the choice with "
                f"{top.worth.change:.0%} probability, by {top.worth.gain:.2g} points on average"
            ),
        )

    def _price(self, accelerator: str) -> Decimal:
        return self.prices.per_second(next(a for a in self.spec.accelerators if a.name == accelerator))

    def _count(self, accelerator: str) -> int:
        return next(a.count for a in self.spec.accelerators if a.name == accelerator)

    def _imagine(
        self, imagined: dict[str, list[Evidence]], model: str, accelerator: str, trial: Trial, score: float | None
    ) -> None:
        """Adds the expected result of a trial, so that forecasts narrow as they will."""
        if score is None:
            score = self._expected_score(model, trial)
        bounded = self.groups.link is Link.LOGIT
        items = trial.fidelity.evaluation_items
        number = Decimal(repr(round(min(max(score, 0.0), 1.0) if bounded else max(score, 1e-6), 6)))
        result = TrialResult(name=trial.name, outcome=Outcome.MEASURED, score=number, items=items)
        imagined.setdefault(model, []).append(Evidence(trial, result, accelerator))

    def _expected_score(self, model: str, trial: Trial) -> float:
        """Median score of a trial in flight, from the strategy that proposed it; its group's mean when none does."""
        for g, group in enumerate(self.space.groups):
            if group.model.name == model and group.refusal is None:
                for p in self._proposals(g, ()):
                    if identity(p.trial) == identity(trial) and p.expected_score is not None:
                        return p.expected_score
        rows = [self.space.rows(g, 0) for g, group in enumerate(self.space.groups) if group.model.name == model]
        means = np.concatenate([self.columns.quality.mean[r] for r in rows])
        return float(self.groups.link.inverse(means.mean()))


def _with_quality(columns: Columns, mean: Array, sd: Array) -> Columns:
    return replace(columns, quality=Posterior(mean, sd, columns.quality.link))
