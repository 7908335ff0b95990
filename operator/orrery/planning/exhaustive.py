"""What measuring every candidate in full would cost: the search that the plan saves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orrery.api.plan import PlanSpec
from orrery.costs.prices import Prices
from orrery.costs.throughput import WorkKind
from orrery.planning.candidates import Space
from orrery.planning.forecasts import Clock, Columns, Groups
from orrery.planning.gates import admitted
from orrery.strategies.trials import evaluation_size


@dataclass(frozen=True)
class Exhaustive:
    """Medians over everything that is not rejected, each configuration once, one load a model."""

    cost: float
    seconds: float  #: accelerator-seconds
    flops: float
    trials: int


def exhaustive(
    spec: PlanSpec, space: Space, groups: Groups, clock: Clock, prices: Prices, columns: Columns
) -> Exhaustive:
    """Sums full measurements on the first accelerator where each configuration is not rejected.

    One load a model flatters the exhaustive search: the saving that is reported is rather too small than too large.
    """
    money = seconds = flops = 0.0
    trials = 0
    loads: dict[tuple[str, int], None] = {}
    for g, group in enumerate(space.groups):
        if group.refusal is not None:
            continue
        view = groups.build(g)
        work = group.plugin.work(view, None, None)
        items = evaluation_size(view)
        training = group.plugin.training
        open_ = np.ones(group.size, dtype=bool)
        for a, accelerator in enumerate(clock.accelerators):
            here = open_ & admitted(columns.rejected[space.rows(g, a)])
            if not here.any():
                continue
            open_ &= ~here
            loads.setdefault((group.model.name, a))
            each = work.request_flops if work.evaluation_flops is None else work.evaluation_flops
            scoring = each[here] * items
            spent = clock.seconds(group.model.name, accelerator.name, WorkKind.INFERENCE, scoring).median()
            if training is not None:
                tuning = clock.seconds(
                    group.model.name,
                    accelerator.name,
                    WorkKind.of(training),
                    work.adaptation_flops[here],
                    work.adaptation_pass_flops[here],
                )
                spent = spent + tuning.median()
            seconds += float(spent.sum()) * spec.accelerators[a].count
            money += float(spent.sum()) * float(prices.per_second(spec.accelerators[a]))
            flops += float((scoring + work.adaptation_flops[here]).sum())
            trials += int(here.sum())
    for model, a in loads:
        load = clock.load_seconds(model, clock.accelerators[a].name)
        seconds += load * spec.accelerators[a].count
        money += load * float(prices.per_second(spec.accelerators[a]))
    return Exhaustive(money, seconds, flops, trials)
