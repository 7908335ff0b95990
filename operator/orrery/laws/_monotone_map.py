"""A monotone spline through (0, 0), measured points and (1, 1), with many draws of what the noise leaves open."""

from __future__ import annotations

import numpy as np

from orrery.laws.posterior import Array

#: Knots closer than this are pooled: a spline through noise twice at one place would be steep for no reason.
_APART = 0.02
#: Prior sd (logit) of where, between its ends, the curve passes the middle of the stretch beyond the last point.
_BEND_SD = 0.35


def draws(x: Array, y: Array, y_sd: Array, at: Array, seed: int) -> Array:
    """One value of the map for each entry of ``at`` (p, s), each from its own draw of the spline; all in [0, 1].

    Args:
        x: (m,) subset scores; y: (m,) full scores; y_sd: (m,) standard errors of y given x.
        at: (p, s) places; column j uses draw j.
        seed: of the draws.

    Notes:
        Beyond the largest measured x nothing but (1, 1) is known. The piecewise cubic (Fritsch-Carlson) fills the stretch,
        and a knot in its middle is drawn around it, between its ends, so the forecast says how much it guesses there.
    """
    from scipy.interpolate import PchipInterpolator  # imported when there is a curve to draw

    rng = np.random.default_rng(seed)
    count = at.shape[1]
    x, y, y_sd = _pooled(x, y, y_sd)
    knots = np.r_[0.0, x, 1.0]
    heights = np.empty((knots.size, count))
    heights[0], heights[-1] = 0.0, 1.0
    noisy = y[:, None] + y_sd[:, None] * rng.standard_normal((y.size, count))
    heights[1:-1] = _increasing(np.clip(noisy, 0.0, 1.0))

    middle = (knots[-2] + 1) / 2
    low = heights[-2]
    between = (PchipInterpolator(knots, heights)(middle) - low) / np.maximum(1 - low, 1e-12)
    bend = np.log(np.clip(between, 1e-3, 0.999) / np.clip(1 - between, 1e-3, 0.999))
    bend = 1 / (1 + np.exp(-bend - _BEND_SD * rng.standard_normal(count)))
    knots = np.insert(knots, -1, middle)
    heights = np.insert(heights, -1, low + (1 - low) * bend, axis=0)

    spline = PchipInterpolator(knots, heights)
    place = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, knots.size - 2)
    step = at - knots[place]
    c = spline.c[:, place, np.arange(count)]
    return np.asarray(np.clip(((c[0] * step + c[1]) * step + c[2]) * step + c[3], 0.0, 1.0), dtype=np.float64)


def _pooled(x: Array, y: Array, y_sd: Array) -> tuple[Array, Array, Array]:
    """Points strictly inside (0, 1), sorted, neighbours within _APART averaged, y made non-decreasing."""
    order = np.argsort(x, kind="stable")
    groups: list[list[int]] = []
    for i in order[(x[order] > _APART) & (x[order] < 1 - _APART)]:
        if groups and x[i] - x[groups[-1][0]] < _APART:
            groups[-1].append(int(i))
        else:
            groups.append([int(i)])
    mean = [np.array([v[g].mean() for g in groups]) for v in (x, y)]
    sd = np.array([np.sqrt((y_sd[g] ** 2).mean() / len(g)) for g in groups])
    return mean[0], _increasing(mean[1][:, None])[:, 0], sd


def _increasing(y: Array) -> Array:
    """Each column made non-decreasing: the mean of the running maximum and the reversed running minimum."""
    if not y.size:
        return y
    up = np.maximum.accumulate(y, axis=0)
    down = np.minimum.accumulate(y[::-1], axis=0)[::-1]
    return np.asarray((up + down) / 2)
