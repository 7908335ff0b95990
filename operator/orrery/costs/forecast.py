"""From work, speed and price to money with intervals.

Accelerators are paid for the seconds they compute (busy seconds): adaptation once, serving for every request of the
horizon. Errors of speed are shared by adaptation and serving of one model on one accelerator, so quantiles add
(comonotone sum), which never understates the interval of the total.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from orrery.api.plan import ModelFacts, Workload
from orrery.costs.accelerators import AcceleratorFacts
from orrery.costs.work import Work
from orrery.laws.posterior import Link, Posterior

Array = NDArray[np.float64]

#: What stands for zero money on the log scale; reported as 0.
NOTHING = 1e-12


@dataclass(frozen=True)
class CostForecasts:
    """Money (the plan's currency) and seconds of n candidates, as log-normal posteriors of shape (n,)."""

    adaptation: Posterior
    serving: Posterior
    total: Posterior
    latency: Posterior  #: seconds of one request, alone on its accelerator


def requests_over_horizon(workload: Workload) -> float:
    """Requests that are served and paid for."""
    return float(workload.requests_per_day) * workload.horizon_days


def forecast_costs(
    work: Work,
    adaptation_seconds: Posterior,
    request_seconds: Posterior,
    price_per_second: Decimal,
    workload: Workload,
    decode_floor: Array | None = None,
) -> CostForecasts:
    """Costs of n candidates from the seconds they take; ``decode_floor`` (n,) is the least time decoding takes alone."""
    price, requests = float(price_per_second), requests_over_horizon(workload)
    adaptation = _scaled(adaptation_seconds, price)
    serving = _scaled(request_seconds, price * requests)
    floor = np.zeros(len(work)) if decode_floor is None else decode_floor
    latency = add(request_seconds, Posterior(np.log(np.maximum(floor, NOTHING)), np.zeros(len(work)), Link.LOG))
    return CostForecasts(adaptation, serving, add(adaptation, serving), latency)


def decode_seconds(facts: ModelFacts, accelerator: AcceleratorFacts, output_tokens: Array) -> Array:
    """Least seconds to generate tokens one by one: every token reads all weights (16 bits) once from memory."""
    return output_tokens * 2.0 * facts.parameters / accelerator.bandwidth


def add(a: Posterior, b: Posterior) -> Posterior:
    """Comonotone sum of log-normals: medians add, and so do, to first order, the quantiles."""
    x, y = np.exp(a.mean), np.exp(b.mean)
    return Posterior(np.log(x + y), (x * a.sd + y * b.sd) / (x + y), Link.LOG)


def _scaled(p: Posterior, factor: float) -> Posterior:
    if factor <= 0:
        return Posterior(np.full_like(p.mean, np.log(NOTHING)), np.zeros_like(p.sd), Link.LOG)
    return Posterior(np.maximum(p.mean + np.log(factor), np.log(NOTHING)), p.sd, Link.LOG)
