"""Measured learning curves, checked once at the door so that every law may trust them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.laws.posterior import Array, Link

#: Repeats with less noise than this count the same.
_EQUALLY_KNOWN = 1e-3


@dataclass(frozen=True)
class Curves:
    """n curves of m measurements: sizes, link-scale values and standard errors, all (n, m).

    What was not measured has value 0 and an infinite standard error.
    """

    sizes: Array
    values: Array
    noise_sd: Array

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Where there is a measurement."""
        return np.isfinite(self.noise_sd)

    def rows(self, index: slice) -> Curves:
        """The selected curves."""
        return Curves(self.sizes[index], self.values[index], self.noise_sd[index])


def check_curves(sizes: ArrayLike, scores: ArrayLike, *, link: Link, noise_sd: ArrayLike | None = None) -> Curves:
    """Curves from sizes (m,) or (n, m) and scores (n, m) or (m,), NaN where not measured.

    Raises:
        ValueError: says which of the inputs is wrong, what was found and what to write instead.
    """
    y = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    x = np.asarray(sizes, dtype=np.float64)
    if y.ndim != 2 or x.ndim not in (1, 2) or x.shape[-1] != y.shape[-1] or (x.ndim == 2 and x.shape != y.shape):
        raise ValueError(
            f"scores have shape {y.shape}, sizes {x.shape}: give scores (curves, sizes) and one size for each column"
        )
    if not np.isfinite(x).all() or (x < 0).any():
        raise ValueError(
            "sizes must be finite numbers of examples >= 0; leave a size that was not measured as NaN in scores"
        )
    if np.isinf(y).any():
        raise ValueError(
            "scores hold an infinite value; write NaN where nothing was measured (a diverged run is no score)"
        )
    seen = ~np.isnan(y)
    found = y[seen]
    if link is Link.LOG and (found <= 0).any():
        raise ValueError(f"a loss must be > 0; found {found.min():g}; write NaN where nothing was measured")
    if link is Link.LOGIT and ((found < 0) | (found > 1)).any():
        raise ValueError(
            f"a share must lie in [0, 1]; found {found[(found < 0) | (found > 1)][0]:g}; divide percentages by 100"
        )
    noise = np.zeros_like(y) if noise_sd is None else np.broadcast_to(np.asarray(noise_sd, dtype=np.float64), y.shape)
    if not np.isfinite(noise[seen]).all() or (noise[seen] < 0).any():
        raise ValueError("noise_sd must be finite and >= 0 wherever a score was measured")
    values = np.where(seen, link.forward(np.where(seen, y, 0.5)), 0.0)
    return Curves(
        sizes=np.broadcast_to(x, y.shape).copy(),
        values=values,
        noise_sd=np.where(seen, noise, np.inf),
    )


def check_targets(sizes: ArrayLike, *, zero: bool = False) -> Array:
    """Sizes to forecast, (p,), from one number or a list; 0 passes where the law has a score before tuning (``zero``).

    Raises:
        ValueError: says what was found and what to write instead.
    """
    at = np.atleast_1d(np.asarray(sizes, dtype=np.float64))
    if at.ndim != 1 or not (np.isfinite(at).all() and (at >= 0 if zero else at > 0).all()):
        least = ">= 0" if zero else "> 0"
        raise ValueError(f"sizes to forecast must be a list of finite numbers of examples {least}; found {sizes!r}")
    return at


def merge_repeats(data: Curves) -> tuple[Array, Array, Array]:
    """Distinct sizes (u,), ascending, with values and standard errors (n, u); repeats are averaged by their precision.

    Where a curve has nothing, its value is 0 and its error infinite, as in ``Curves``.
    """
    used = np.unique(data.sizes[data.seen])
    rows, columns = np.nonzero(data.seen)
    place = np.searchsorted(used, data.sizes[rows, columns])
    noise = data.noise_sd[rows, columns]
    weight = 1.0 / np.maximum(noise, _EQUALLY_KNOWN) ** 2
    total, sums, noises = np.zeros((3, len(data.values), len(used)))
    np.add.at(total, (rows, place), weight)
    np.add.at(sums, (rows, place), weight * data.values[rows, columns])
    np.add.at(noises, (rows, place), (weight * noise) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = total > 0
        return used, np.where(seen, sums / total, 0.0), np.where(seen, np.sqrt(noises) / total, np.inf)
