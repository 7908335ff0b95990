"""Learning-curve laws by name, all called the same way: what a plan may name as its predictor, and what it is compared with.

A law from elsewhere joins by an entry point in the group ``orrery.curve_laws``: a function with the signature of
``CurveLaw``, named in CamelCase. Laws of ``NEEDS_KERNEL`` take one keyword more, ``worth`` (n,): what pre-training is worth,
read off a measured tangent kernel.
"""

from __future__ import annotations

from functools import cache, wraps
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from orrery.laws import accept_then_stop, ntk, pooled, power, rectified
from orrery.laws.accept_then_stop import LinePosterior
from orrery.laws.observations import Curves, check_curves
from orrery.laws.posterior import Array, Link, Posterior
from orrery.laws.priors import shipped_prior
from orrery.plugins import entries, nearest

GROUP = "orrery.curve_laws"

#: Link-scale sd of what no law explains at its own last point, besides noise.
_UNEXPLAINED = 0.02


class CurveLaw(Protocol):
    """Forecast of scores (n, p) at training sizes ``at`` (p,) from scores (n, m), NaN where not measured, at ``sizes`` (m,)."""

    def __call__(
        self, sizes: Array, scores: Array, at: Array, *, link: Link, noise_sd: Array, chance: float
    ) -> Posterior:
        """Any number of sizes and curves, even none: the less is measured, the wider the forecast."""
        ...


def _pooled(sizes: Array, scores: Array, at: Array, *, link: Link, noise_sd: Array, chance: float) -> Posterior:
    return pooled.forecast(sizes, scores, at, link=link, noise_sd=noise_sd, chance=chance)


def _rectified(sizes: Array, scores: Array, at: Array, *, link: Link, noise_sd: Array, chance: float) -> Posterior:
    prior = shipped_prior(link)
    return rectified.fit(sizes, scores, link=link, noise_sd=noise_sd, prior=prior, chance=chance).predict(at)


def _power(sizes: Array, scores: Array, at: Array, *, link: Link, noise_sd: Array, chance: float) -> Posterior:
    return _with_prior(
        power.fit(sizes, scores, link=link, noise_sd=noise_sd).predict(at), sizes, scores, at, link=link, chance=chance
    )


def _ntk_rectified(
    sizes: Array,
    scores: Array,
    at: Array,
    *,
    link: Link,
    noise_sd: Array,
    chance: float,
    worth: Array | None = None,
) -> Posterior:
    if worth is None:  # without a kernel it is the power law
        return _power(sizes, scores, at, link=link, noise_sd=noise_sd, chance=chance)
    found = ntk.fit(sizes, scores, worth, link=link, noise_sd=noise_sd).predict(at)
    return _with_prior(found, sizes, scores, at, link=link, chance=chance)


def _accept_then_stop(
    sizes: Array, scores: Array, at: Array, *, link: Link, noise_sd: Array, chance: float
) -> Posterior:
    return _line(lambda y: accept_then_stop.fit(sizes, y, link=link), sizes, scores, at, link, chance)


def _last_two(sizes: Array, scores: Array, at: Array, *, link: Link, noise_sd: Array, chance: float) -> Posterior:
    return _line(lambda y: accept_then_stop.last_points(sizes, y, link=link), sizes, scores, at, link, chance)


class _LineFit(Protocol):
    def __call__(self, y: Array, /) -> LinePosterior: ...


def _line(fit: _LineFit, sizes: Array, scores: Array, at: Array, link: Link, chance: float) -> Posterior:
    seen = np.isfinite(scores).any(axis=1) if scores.shape[1] else np.zeros(len(scores), dtype=np.bool_)
    mean, sd = np.zeros((2, len(scores), len(at)))
    if seen.any():
        found = fit(scores[seen]).predict(at)
        mean[seen], sd[seen] = found.mean, found.sd
    return _with_prior(Posterior(mean, sd, link), sizes, scores, at, link=link, chance=chance)


def _with_prior(found: Posterior, sizes: Array, scores: Array, at: Array, *, link: Link, chance: float) -> Posterior:
    """``found`` where something was measured; elsewhere what the prior says, since a line through nothing says nothing."""
    unseen = ~check_curves(sizes, scores, link=link).seen.any(axis=1)
    if not unseen.any():
        return found
    prior = rectified.fit(sizes, scores[unseen], link=link, prior=shipped_prior(link), chance=chance).predict(at)
    mean, sd = found.mean.copy(), found.sd.copy()
    mean[unseen], sd[unseen] = prior.mean, prior.sd
    return Posterior(mean, sd, link)


def guarded(law: CurveLaw) -> CurveLaw:
    """The law behind one door: what it may trust, and what it may not be sure of.

    Sizes come sorted and once, repeats averaged by their precision; sizes to forecast are checked; no curve at all is no
    error. A law that misses a curve's own last point, such as a falling law on a rising loss, is off by as much further
    out: its interval is widened by what the noise does not explain.
    """

    @wraps(law)
    def call(
        sizes: ArrayLike,
        scores: ArrayLike,
        at: ArrayLike,
        *,
        link: Link,
        noise_sd: ArrayLike,
        chance: float,
        **more: Array,
    ) -> Posterior:
        target = np.atleast_1d(np.asarray(at, dtype=np.float64))
        if target.ndim != 1 or not (np.isfinite(target).all() and (target > 0).all()):
            raise ValueError(f"sizes to forecast must be a list of finite numbers of examples > 0; found {at!r}")
        data = check_curves(sizes, scores, link=link, noise_sd=noise_sd)
        if not len(data.values):
            return Posterior(np.zeros((0, len(target))), np.zeros((0, len(target))), link)
        unique, values, noise = _merged(data)
        seen = np.isfinite(noise)
        last = np.where(seen, np.arange(len(unique)), -1).max(axis=1, initial=-1)
        ends = np.unique(last[last >= 0])
        y = np.where(seen, link.inverse(values), np.nan)
        found = law(
            unique,
            y,
            np.concatenate([target, unique[ends]]),
            link=link,
            noise_sd=np.where(seen, noise, 0.0),
            chance=chance,
            **more,
        )
        mean, sd = found.mean[:, : len(target)], found.sd[:, : len(target)].copy()
        for k, end in enumerate(ends):
            rows = last == end
            off = values[rows, end] - found.mean[rows, len(target) + k]
            explained = 2 * np.hypot(noise[rows, end], _UNEXPLAINED)
            missed = np.maximum(np.abs(off) - explained, 0.0)[:, None]
            sd[rows] = np.hypot(sd[rows], np.where(target > unique[end], missed, 0.0))
        return Posterior(mean, sd, link)

    return call


def _merged(data: Curves) -> tuple[Array, Array, Array]:
    """Distinct sizes (u,), link-scale values and noise (n, u), infinite where there is none."""
    used = np.unique(data.sizes[data.seen]) if data.seen.any() else np.ones(0)
    rows, columns = np.nonzero(data.seen)
    place = np.searchsorted(used, data.sizes[rows, columns])
    # Without a stated noise all repeats count the same.
    noise = np.maximum(data.noise_sd[rows, columns], 1e-6)
    total, sums = np.zeros((2, len(data.values), len(used)))
    np.add.at(total, (rows, place), noise**-2)
    np.add.at(sums, (rows, place), data.values[rows, columns] * noise**-2)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(total > 0, total**-0.5, np.inf)
        return used, np.where(total > 0, sums / total, 0.0), np.where(error <= 1e-6, 0.0, error)


BUILTIN: dict[str, CurveLaw] = {
    "Pooled": guarded(_pooled),
    "RectifiedLaw": guarded(_rectified),
    "PowerLaw": guarded(_power),
    "NTKRectified": guarded(_ntk_rectified),
    "AcceptThenStop": guarded(_accept_then_stop),
    "LastTwoPoints": guarded(_last_two),
}


#: Laws that take ``worth``.
NEEDS_KERNEL = frozenset({"NTKRectified"})


def names() -> tuple[str, ...]:
    """Names of all laws, built in and installed, sorted."""
    return tuple(sorted({*BUILTIN, *entries(GROUP)}))


def curve_law(name: str) -> CurveLaw:
    """The law of that name; names of entry points extend the built-in ones and cannot replace them.

    Raises:
        ValueError: with the names that there are, and the nearest.

    >>> curve_law("AcceptThenStop") is BUILTIN["AcceptThenStop"]
    True
    """
    if name in BUILTIN:
        return BUILTIN[name]
    if name not in entries(GROUP):
        hint = nearest(name, names())
        raise ValueError(f"no learning-curve law is named {name!r}; write one of: {', '.join(names())}{hint}")
    return _installed(name)


@cache
def _installed(name: str) -> CurveLaw:
    return guarded(entries(GROUP)[name].load())
