"""Refusals shared by the laws: the number a law cannot use, its place, its value and what to give instead."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from orrery.laws.posterior import Array


def vector(name: str, value: ArrayLike) -> Array:
    """``value`` as a one-dimensional float array.

    Raises:
        ValueError: it has another number of dimensions.
    """
    out = np.asarray(value, dtype=np.float64)
    if out.ndim != 1:
        raise ValueError(f"{name} has shape {out.shape}: give one dimension")
    return out


def within(name: str, value: Array, low: float, high: float, mend: str, *, missing: bool = False) -> Array:
    """``value`` when every entry lies in [low, high]; NaN passes only as a ``missing`` entry.

    Raises:
        ValueError: names the first offending place, its value and ``mend``.
    """
    with np.errstate(invalid="ignore"):
        good = np.isfinite(value) & (value >= low) & (value <= high)
    if missing:
        good |= np.isnan(value)
    if not good.all():
        place = np.argwhere(~good)[0].tolist()
        where = ", ".join(str(i) for i in place)
        raise ValueError(f"{name}[{where}] is {value[tuple(place)]:g}: {mend}")
    return value
