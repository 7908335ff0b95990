"""Which accelerators to serve the answer on: the cheapest mix that meets the latency objective.

Candidates are compared on one accelerator each. A service may buy several kinds: short requests to a small card, long ones to
the one that answers them in time (Melange, arXiv 2404.14527). Requests fall into buckets by the lengths of their answers,
as probes measured them; without such lengths there is one bucket.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from orrery.api.plan import AdaptationPlan, PlanSpec
from orrery.api.pricelist import PriceList
from orrery.api.task import TaskType
from orrery.costs.lengths import QUANTILES
from orrery.costs.mix import Mix, NoMix, cheapest_mix
from orrery.costs.prices import Prices
from orrery.costs.serving import peak_ratio, serve
from orrery.costs.throughput import WorkKind
from orrery.laws.posterior import Array
from orrery.planning.advance import Situation, assess
from orrery.planning.forecasts import Clock, Groups
from orrery.planning.reasons import amount
from orrery.planning.types import ProbeRecord
from orrery.strategies.tokens import UNKNOWN_MODEL, answer_lengths

#: Of all answers, those nearest to each quantile: the borders lie half-way between neighbours.
SHARES = np.diff([0.0, *((a + b) / 2 for a, b in itertools.pairwise(QUANTILES)), 1.0])


@dataclass(frozen=True)
class Fleet:
    """What serves the recommended candidate at the peak, at which price; kinds in the plan's order."""

    kinds: tuple[str, ...]
    excluded: tuple[tuple[str, str], ...]  #: kinds that cannot, with the gates' sentence
    answer_tokens: tuple[float, ...]  #: of each bucket, (b,)
    shares: Array  #: of the requests in each bucket, (b,)
    seconds: Array  #: busy seconds of a request, (b, k)
    latency: Array  #: seconds until its answer, with the objective's confidence, (b, k)
    prices: tuple[float, ...]  #: money an hour of each kind
    mix: Mix | None
    alone: tuple[Mix | None, ...]  #: the same with one kind only; None where it is too slow
    problem: str | None = None  #: why there is no mix

    def sentence(self, spec: PlanSpec, currency: str) -> str:
        """What the mix comes to, or why there is none."""
        if self.mix is None:
            return f"no mix: {self.problem}"
        bought = (
            " and ".join(f"{n} {name}" for n, name in zip(self.mix.replicas, self.kinds, strict=True) if n) or "nothing"
        )
        hourly, days = self.mix.price_per_hour, spec.workload.horizon_days
        return (
            f"{bought} at {amount(hourly)} {currency} an hour, {amount(hourly * 24 * days)} {currency} over {days} days of "
            f"standing by, answer within {spec.objective.max_latency_milliseconds} ms at the peak"
        )


def fleet_of_answer(plan: AdaptationPlan, prices: PriceList, records: Sequence[ProbeRecord]) -> Fleet | None:
    """The cheapest mix for what the records answer; None where there is nothing to mix."""
    if len(plan.spec.accelerators) < 2 or plan.spec.objective.max_latency_milliseconds is None:
        return None
    return fleet(plan, prices, assess(plan, records, prices))


def fleet(plan: AdaptationPlan, prices: PriceList, situation: Situation) -> Fleet | None:
    """The cheapest mix for the recommended candidate.

    None where there is nothing to mix: one kind of accelerator, no limit on latency, no answer, or a host paid by the token.
    """
    spec, space, known, chosen = plan.spec, situation.space, situation.known, situation.decision.chosen
    limit = spec.objective.max_latency_milliseconds
    if chosen is None or limit is None or len(space.accelerators) < 2:
        return None
    g, configuration = int(space.group[chosen]), int(space.configuration[chosen])
    group = space.groups[g]
    if group.model.hosted_as is not None and group.plugin.training is None:
        return None
    rejected = {
        a.name: situation.columns.rejected[space.rows(g, k)][configuration] for k, a in enumerate(space.accelerators)
    }
    kinds = [k for k, a in enumerate(space.accelerators) if rejected[a.name] is None]
    excluded = tuple((name, str(why)) for name, why in rejected.items() if why is not None)
    view, clock, table = Groups(spec, space, known).build(g), Clock(spec, known), Prices(prices)
    generated = spec.task.type is TaskType.GENERATION
    lengths = answer_lengths(known.evidence.get(group.model.name, ()), group.plugin.type) if generated else None
    given = None if spec.workload.output_tokens is None else float(spec.workload.output_tokens)
    buckets: Sequence[float | None] = [given] if lengths is None else lengths.quantiles
    shares = np.ones(1) if lengths is None else SHARES
    sure = float(ndtri(np.clip(float(spec.objective.confidence), 0.5, 0.999)))
    seconds, latency = np.zeros((len(buckets), len(kinds))), np.zeros((len(buckets), len(kinds)))
    tokens = []
    facts = known.model_facts.get(group.model.name, UNKNOWN_MODEL)
    for b, length in enumerate(buckets):
        work = group.plugin.work(view, _float(spec.workload.input_tokens), length)
        tokens.append(float(work.request_output_tokens[configuration]))
        for j, k in enumerate(kinds):
            accelerator = clock.accelerators[k]
            alone = clock.seconds(group.model.name, accelerator.name, WorkKind.INFERENCE, work.request_flops)
            served = serve(work, alone, facts, accelerator, spec.workload, group.model.precision, generated)
            late = served.latency
            seconds[b, j] = served.busy_seconds.median()[configuration]
            latency[b, j] = np.exp(late.mean[configuration] + sure * late.sd[configuration])
    cost = [float(table.per_hour(space.accelerators[k])) for k in kinds]
    rates = (float(spec.workload.requests_per_day) / 86400.0 * peak_ratio(spec.workload) * shares).tolist()

    def solve(some: list[int]) -> Mix:
        return cheapest_mix(rates, seconds[:, some], latency[:, some], limit / 1000.0, [cost[j] for j in some])

    def possible(j: int) -> Mix | None:
        try:
            return solve([j])
        except NoMix:
            return None

    mix, problem = None, None
    try:
        mix = solve(list(range(len(kinds))))
    except NoMix as refused:
        problem = str(refused)
    names = tuple(space.accelerators[k].name for k in kinds)
    alone_each = tuple(possible(j) for j in range(len(kinds)))
    return Fleet(names, excluded, tuple(tokens), shares, seconds, latency, tuple(cost), mix, alone_each, problem)


def _float(value: object) -> float | None:
    return None if value is None else float(value)  # type: ignore[arg-type]  # a number of the plan
