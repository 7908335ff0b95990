"""Other designers in the recorded world, stopped when they have spent as much as they are given.

The budget's reservations are not in the way here: a search may use its money to the last second, on average, and what no
longer fits of a probe is cut off. Whoever chose the probes, the same forecaster answers from them.
"""

from __future__ import annotations

import base64
import random
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from orrery.api.plan import AdaptationPlan
from orrery.api.probe import TrialResult, probe_name
from orrery.planning.advance import advance
from orrery.planning.types import ProbeRecord, ProbeState, Step
from tests.benchmarks.grids import PRICES, facts_of
from tests.benchmarks.recorded import World, seconds

T = TypeVar("T")


def item_scores(result: TrialResult) -> NDArray[np.float64]:
    """(items,) right or wrong, from a result's packed bits."""
    if result.bits is None:
        raise ValueError(f"trial {result.name} has no per-item results")
    packed = np.frombuffer(base64.b64decode(result.bits), dtype=np.uint8)
    return np.unpackbits(packed)[: result.items].astype(np.float64)


def shuffled(of: AdaptationPlan, designer: str, rng: random.Random) -> AdaptationPlan:
    """The plan with another designer and its lists in another order: the same candidates, the same trials."""
    spec = of.spec
    strategies = [
        s.model_copy(update={"grid": [a.model_copy(update={"values": _mixed(a.values, rng)}) for a in s.grid]})
        for s in spec.strategies
    ]
    changed = spec.model_copy(
        update={
            "models": _mixed(spec.models, rng),
            "strategies": _mixed(strategies, rng),
            "probing": spec.probing.model_copy(update={"designer": designer}),
        }
    )
    return of.model_copy(update={"spec": changed})


def _mixed(values: list[T], rng: random.Random) -> list[T]:
    return rng.sample(values, len(values))


def at_equal_money(
    world: World, of: AdaptationPlan, designer: str, limit: float, rng: random.Random
) -> tuple[Step, list[ProbeRecord]]:
    """What a designer would have found for ``limit`` seconds of probing on average, and the probes it took.

    Trials are not divisible. The one that the money does not reach is run with the probability that makes the expected
    spend the limit, and the search ends with it: always stopping before it would give the rival less money than the plan.
    """
    asked = shuffled(of, designer, rng)
    facts = facts_of(asked)
    records: list[ProbeRecord] = []
    going = True
    while going and (left := limit - sum(r.seconds for r in records)) > 0:
        step = advance(asked, records, PRICES, facts)
        if not step.start:
            break
        record, going = _cut(world, world.record(step.start[0]), left, rng)
        if record is not None:
            records.append(record)
    return advance(of, records, PRICES, facts), records


def _cut(world: World, record: ProbeRecord, left: float, rng: random.Random) -> tuple[ProbeRecord | None, bool]:
    """The trials of a probe for which ``left`` seconds suffice, perhaps the first for which they do not, and whether all fit.

    None without a trial.
    """
    assert record.report is not None
    used, kept = 0.0, 0
    for result in record.report.trials:
        start = 0.0 if kept else world.start_seconds(record.spec.model.name)
        price = start + seconds(result)
        fits = used + price <= left
        if fits or rng.random() < (left - used) / price:
            used, kept = used + price, kept + 1
        if not fits:
            break
    else:
        return record, True
    if not kept:
        return None, False
    spec = record.spec.model_copy(update={"trials": record.spec.trials[:kept]})
    name = probe_name(spec)
    report = record.report.model_copy(update={"probe": name, "trials": record.report.trials[:kept]})
    return replace(record, name=name, spec=spec, report=report, seconds=used, state=ProbeState.SUCCEEDED), False
