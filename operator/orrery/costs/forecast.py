"""From work, speed and price to money with intervals.

Accelerators are paid for the seconds they compute (busy seconds), or for standing by where capacity is provisioned:
adaptation once, serving for every request of the horizon. Errors of speed are shared by adaptation and serving of one model on one accelerator, so quantiles add
(comonotone sum), which never understates the interval of the total.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from orrery.api.plan import Workload
from orrery.costs.serving import Served, nothing, serving_seconds
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
    adaptation_seconds: Posterior, served: Served, price_per_second: Decimal, workload: Workload
) -> CostForecasts:
    """Costs of n candidates from the seconds that adapting takes and what serving takes."""
    price = float(price_per_second)
    adaptation = _scaled(adaptation_seconds, price)
    serving = _scaled(serving_seconds(served, workload), price)
    return CostForecasts(adaptation, serving, add(adaptation, serving), served.latency)


def hosted_costs(served: Served, serving: Posterior) -> CostForecasts:
    """Costs where nothing is adapted and a host is paid by the token (``serving``, money)."""
    return CostForecasts(nothing(len(served.replicas)), serving, serving, served.latency)


def add(a: Posterior, b: Posterior) -> Posterior:
    """Comonotone sum of log-normals: medians add, and so do, to first order, the quantiles."""
    x, y = np.exp(a.mean), np.exp(b.mean)
    return Posterior(np.log(x + y), (x * a.sd + y * b.sd) / (x + y), Link.LOG)


def _scaled(p: Posterior, factor: float) -> Posterior:
    if factor <= 0 or not len(p.mean):
        return Posterior(np.full_like(p.mean, np.log(NOTHING)), np.zeros_like(p.sd), Link.LOG)
    return Posterior(np.maximum(p.mean + np.log(factor), np.log(NOTHING)), p.sd, Link.LOG)
