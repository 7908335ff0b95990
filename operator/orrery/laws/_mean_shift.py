"""Mean-shift clustering with a flat kernel, as the COD paper uses it, in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orrery.laws.posterior import Array

#: Points of which the bandwidth is estimated at most: the cost is quadratic.
_SAMPLE = 2000


def cdist(a: Array, b: Array) -> Array:
    """Euclidean distances (n, m) between points (n, d) and (m, d)."""
    from scipy.spatial import distance  # imported when there is something to cluster

    return np.asarray(distance.cdist(a, b), dtype=np.float64)


def bandwidth(points: Array, quantile: float) -> float:
    """Mean distance of a point to its (quantile * n)-th nearest neighbour, itself the first, over ``points`` (n, d)."""
    sample = points[:: max(1, -(-len(points) // _SAMPLE))]
    neighbour = max(1, int(len(sample) * quantile)) - 1
    return float(np.partition(cdist(sample, sample), neighbour, axis=1)[:, neighbour].mean())


def cluster(points: Array, width: float, *, rounds: int = 100) -> tuple[NDArray[np.int_], Array]:
    """Nearest mode of every point (n,) and its distance to that mode's centre (n,).

    Seeds are the occupied cells of a grid of the bandwidth; of two modes closer than the bandwidth the denser one stays.

    References:
        Comaniciu and Meer, Mean shift: a robust approach toward feature space analysis, 2002.
    """
    centres = np.unique(np.round(points / width), axis=0) * width
    for _ in range(rounds):
        inside = (cdist(centres, points) <= width).astype(np.float64)
        count = inside.sum(1)
        moved = np.where(count[:, None] > 0, inside @ points / np.maximum(count, 1)[:, None], centres)
        still = np.abs(moved - centres).max() <= 1e-3 * width
        centres = moved
        if still:
            break
    count = (cdist(centres, points) <= width).sum(1)
    order = np.lexsort((*centres.T[::-1], -count))
    modes: list[Array] = []
    for centre in centres[order[count[order] > 0]]:
        if not modes or cdist(centre[None], np.array(modes)).min() > width:
            modes.append(centre)
    distance = cdist(points, np.array(modes))
    label = distance.argmin(1)
    return label, distance[np.arange(len(points)), label]


def cluster_until_stable(points: Array, *, least: int = 10) -> NDArray[np.int_]:
    """Cluster of every point (n,), -1 where none is close enough; points: (n, d) in [0, 1].

    COD (arXiv 2502.17262): the bandwidth is min(estimate at quantile .1, sqrt(d) / 10); points farther than it from their
    centre and clusters under ``least`` points are unlabelled and clustered again until nothing new is found. The estimate
    is taken anew for what is left, whose points are sparser.
    """
    label = np.full(len(points), -1)
    found = 0
    while True:
        rest = np.flatnonzero(label < 0)
        if rest.size < least:
            return label
        left = points[rest]
        # Identical points have an estimate of 0: any small width then groups exactly the equals.
        width = max(min(bandwidth(left, 0.1), np.sqrt(points.shape[1]) / 10), 1e-6)
        near, distance = cluster(left, width)
        near = np.where(distance <= width, near, -1)
        size = np.bincount(near[near >= 0], minlength=near.max() + 1) if (near >= 0).any() else np.zeros(0)
        large = np.flatnonzero(size >= least)
        if large.size == 0:
            return label
        for mode in large:
            label[rest[near == mode]] = found
            found += 1
