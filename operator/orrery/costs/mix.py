"""The cheapest mix of accelerators that serves a workload within its latency objective, by an integer program.

Melange (arXiv 2404.14527): requests fall into buckets by their size; on each kind of accelerator a bucket's request takes a
share of a replica, or is too slow for the objective. Which kind serves how much of each bucket, and how many of each kind
are bought, is one integer program, since replicas are whole::

    min   sum_k price_k n_k
    s.t.  sum_k x_bk = 1                      every bucket is served
          sum_b rate_b seconds_bk x_bk <= u n_k   no kind is busier than u
          x_bk = 0 where latency_bk > limit
          n_k whole, 0 <= x_bk <= 1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orrery.costs.serving import TARGET_UTILISATION

Array = NDArray[np.float64]


class NoMix(ValueError):  # noqa: N818  # reads as what happened
    """No accelerator answers a bucket of requests in time."""


@dataclass(frozen=True)
class Mix:
    """Replicas of each kind, what they cost an hour, and which share of each bucket each kind serves (buckets, kinds)."""

    replicas: tuple[int, ...]
    price_per_hour: float
    shares: Array


def cheapest_mix(
    rates: Sequence[float],
    seconds: Array,
    latency: Array,
    limit: float | None,
    prices: Sequence[float],
    utilisation: float = TARGET_UTILISATION,
) -> Mix:
    """The cheapest replicas for buckets of requests.

    Args:
        rates: requests a second of each bucket at the peak, (b,).
        seconds: busy seconds of one request of each bucket on each kind of accelerator, (b, k).
        latency: seconds until its answer, (b, k).
        limit: longest acceptable latency in seconds; None for any.
        prices: money an hour of each kind, (k,).
        utilisation: share of a replica's time that may be busy.

    Raises:
        NoMix: a bucket is too slow everywhere; the message says which and by how much.

    >>> mix = cheapest_mix([10.0], np.array([[0.1, 0.02]]), np.array([[0.1, 0.02]]), None, [1.0, 3.0])
    >>> mix.replicas, mix.price_per_hour
    ((2, 0), 2.0)
    """
    # a quarter of a second, which `orrery explain` and `report` of plans with one kind of accelerator need not spend
    from scipy.optimize import Bounds, LinearConstraint, milp

    rate, price = np.asarray(rates, dtype=np.float64), np.asarray(prices, dtype=np.float64)
    b, k = seconds.shape
    possible = np.ones((b, k), dtype=bool) if limit is None else latency <= limit
    for late in np.flatnonzero(~possible.any(axis=1) & (rate > 0)).tolist():
        raise NoMix(
            f"bucket {late + 1} takes {latency[late].min():.3g} s at the least and the limit is {limit:.3g} s: allow more, or "
            "list a faster accelerator"
        )
    served = rate > 0
    load = np.where(served[:, None], rate[:, None] * seconds, 0.0)
    cost = np.concatenate([np.zeros(b * k), price])
    every = np.zeros((b, b * k + k))
    for i in range(b):
        every[i, i * k : (i + 1) * k] = 1.0
    busy = np.zeros((k, b * k + k))
    for j in range(k):
        busy[j, j : b * k : k] = load[:, j]
        busy[j, b * k + j] = -utilisation
    upper = np.concatenate([(possible | ~served[:, None]).astype(float).ravel(), np.full(k, np.inf)])
    found = milp(
        cost,
        constraints=[LinearConstraint(every, 1.0, 1.0), LinearConstraint(busy, -np.inf, 0.0)],
        integrality=np.concatenate([np.zeros(b * k), np.ones(k)]),
        bounds=Bounds(0.0, upper),
    )
    if not found.success:
        raise NoMix(f"the integer program ended without an answer: {found.message}")
    replicas = tuple(round(n) for n in found.x[b * k :])
    return Mix(replicas, float(np.dot(replicas, price)), found.x[: b * k].reshape(b, k))
