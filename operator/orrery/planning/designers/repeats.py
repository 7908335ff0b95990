"""The same measurement under another seed: what that would tell, where the seed matters (``probing.seeds``).

Training, and demonstrations drawn at random, are a lottery of their own, which no number of evaluation items averages out. A
candidate measured in full under k seeds is known up to sd^2 / k of that lottery; one seed more moves the mean by
sd / sqrt(k (k + 1)), and nothing else. So a repeat is worth something only where that much would change the decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import sqrt
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from orrery.laws.posterior import Array
from orrery.planning.designers.ladder import full_size
from orrery.strategies.base import Evidence, Group, Proposal, Strategy
from orrery.strategies.trials import Identity, direct, evaluation_size, identity, make_trial, observed, parameters_of

#: Sd between seeds on the link scale before any was repeated. Training on hundreds of examples: as the forecasts take it
#: (``strategies.tuning_curves``). Random demonstrations: twelve measured curves have a median of .1 and a root mean
#: square of .25 up to eight of them (``tests.benchmarks.measure_shots``).
TRAINING_SD, DEMONSTRATIONS_SD = 0.1, 0.25
#: Repeats that this counts for against those that were measured.
_COUNTS_FOR = 4.0


def repeats(plugin: Strategy, view: Group, sd: Array, open_: NDArray[np.bool_]) -> Iterator[Proposal]:
    """Another seed for every configuration that was measured in full under fewer seeds than the plan allows.

    Args:
        plugin: the group's strategy.
        view: the group with its evidence, imagined evidence included.
        sd: (n,) link-scale sd of the configurations' forecasts, which no measurement can move further.
        open_: (n,) configurations that nothing rejects.
    """
    tried: dict[Identity, list[Evidence]] = {}
    for e in direct(view.evidence, plugin.type):
        lottery = plugin.training is not None or parameters_of(e.trial).get("retriever") == "random"
        if lottery and observed(e.result, view.link) is not None:
            tried.setdefault(identity(e.trial), []).append(e)
    if view.probing.seeds < 2 or not tried:
        return
    between = _seed_sd(TRAINING_SD if plugin.training is not None else DEMONSTRATIONS_SD, view, tried.values())
    work, measured = plugin.work(view, None, None), plugin.forecast(view).measured & open_
    each = work.request_flops if work.evaluation_flops is None else work.evaluation_flops
    for key, seen in sorted(tried.items()):
        k, parameters = len(seen), parameters_of(seen[0].trial)
        same = [
            i
            for i in np.flatnonzero(measured).tolist()
            if key[3] == (full_size(view, i) if plugin.training is not None else 0)
            and all(view.columns[name][i] == v for name, v in parameters.items() if name in view.columns)
        ]
        if k >= view.probing.seeds or not same:
            continue
        shift = np.zeros(view.size)
        shift[same] = np.minimum(between / sqrt(k * (k + 1)), 0.999 * sd[same])
        yield Proposal(
            make_trial(view, plugin.type, parameters, examples=key[3], repeat=k),
            shift,
            float(work.adaptation_flops[same[0]]),
            float(each[same[0]]) * evaluation_size(view),
            fmean(float(e.result.score or 0) for e in seen),
            training_pass_flops=float(work.adaptation_pass_flops[same[0]]),
        )


def _seed_sd(prior: float, view: Group, measured: Iterable[Sequence[Evidence]]) -> float:
    """Sd between seeds: the prior's, drawn towards what repeats of this group showed."""
    square, freedom = _COUNTS_FOR * prior**2, _COUNTS_FOR
    for seen in measured:
        values = [v[0] for e in seen if (v := observed(e.result, view.link)) is not None]
        square += sum((v - fmean(values)) ** 2 for v in values)
        freedom += len(values) - 1
    return sqrt(square / freedom)
