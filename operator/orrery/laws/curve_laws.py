"""Learning-curve laws by name, all called the same way: what a plan may name as its predictor, and what it is compared with.

A law from elsewhere joins by an entry point in the group ``orrery.curve_laws``: a function with the signature of
``CurveLaw``, named in CamelCase. Laws of ``NEEDS_KERNEL`` take one keyword more, ``worth`` (n,): what pre-training is worth,
read off a measured tangent kernel. Those of ``SHARES_STRENGTH`` take ``parameters`` (n,) and ``family``, a name a curve.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.laws import accept_then_stop, ntk, pooled, power
from orrery.laws.accept_then_stop import LinePosterior
from orrery.laws.observations import check_curves, check_targets, merge_repeats
from orrery.laws.posterior import Array, Link, Posterior
from orrery.laws.priors import shipped_pooled_prior, shipped_prior
from orrery.laws.reach import discrepancy, nonsense_sd, reach_sd, shipped_reach
from orrery.laws.reach import reference as rectified_law
from orrery.laws.rectified import RectifiedPrior
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


class _Law(Protocol):
    """A built-in law: it is told the ``prior`` of the rectified law, which has not seen the task at hand."""

    def __call__(
        self,
        sizes: Array,
        scores: Array,
        at: Array,
        *,
        link: Link,
        noise_sd: Array,
        chance: float,
        prior: RectifiedPrior,
    ) -> Posterior: ...


def _pooled(sizes: Array, scores: Array, at: Array, **known: Any) -> Posterior:
    return pooled.forecast(sizes, scores, at, **known)


def _power(
    sizes: Array, scores: Array, at: Array, *, link: Link, noise_sd: Array, chance: float, prior: RectifiedPrior
) -> Posterior:
    return power.fit(sizes, scores, link=link, noise_sd=noise_sd).predict(at)


def _ntk_rectified(
    sizes: Array,
    scores: Array,
    at: Array,
    *,
    link: Link,
    noise_sd: Array,
    chance: float,
    prior: RectifiedPrior,
    worth: Array | None = None,
) -> Posterior:
    if worth is None:  # without a kernel it is the power law
        return power.fit(sizes, scores, link=link, noise_sd=noise_sd).predict(at)
    return ntk.fit(sizes, scores, worth, link=link, noise_sd=noise_sd).predict(at)


def _accept_then_stop(
    sizes: Array, scores: Array, at: Array, *, link: Link, noise_sd: Array, chance: float, prior: RectifiedPrior
) -> Posterior:
    return _line(accept_then_stop.fit, sizes, scores, at, link)


def _last_two(
    sizes: Array, scores: Array, at: Array, *, link: Link, noise_sd: Array, chance: float, prior: RectifiedPrior
) -> Posterior:
    return _line(accept_then_stop.last_points, sizes, scores, at, link)


def _line(fit: Callable[..., LinePosterior], sizes: Array, scores: Array, at: Array, link: Link) -> Posterior:
    seen = np.isfinite(scores).any(axis=1) if scores.shape[1] else np.zeros(len(scores), dtype=np.bool_)
    mean, sd = np.zeros((2, len(scores), len(at)))
    if seen.any():
        found = fit(sizes, scores[seen], link=link).predict(at)
        mean[seen], sd[seen] = found.mean, found.sd
    return Posterior(mean, sd, link)


def guarded(law: CurveLaw) -> CurveLaw:
    """A law from elsewhere behind one door: what it may trust, and what it may not be sure of.

    Sizes come sorted and once, repeats averaged by their precision; sizes to forecast are checked; no curve at all is no
    error. A law that misses a curve's own last point, such as a falling law on a rising loss, is off by as much further
    out: its interval is widened by what the noise does not explain. So is that of a forecast worse than the last point, or
    far from it (``reach.nonsense_sd``).
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
        **more: Any,
    ) -> Posterior:
        target = check_targets(at)
        data = check_curves(sizes, scores, link=link, noise_sd=noise_sd)
        if not len(data.values):
            return Posterior(np.zeros((0, len(target))), np.zeros((0, len(target))), link)
        unique, values, noise = merge_repeats(data)
        seen = np.isfinite(noise)
        last = np.where(seen, np.arange(len(unique)), -1).max(axis=1, initial=-1)
        ends = np.unique(last[last >= 0])
        known: dict[str, Any] = {"link": link, "noise_sd": np.where(seen, noise, 0.0), "chance": chance}
        y = np.where(seen, link.inverse(values), np.nan)
        found = law(unique, y, np.concatenate([target, unique[ends]]), **known, **more)
        mean, sd = found.mean[:, : len(target)], found.sd[:, : len(target)].copy()
        for k, end in enumerate(ends):
            rows = last == end
            off = values[rows, end] - found.mean[rows, len(target) + k]
            explained = 2 * np.hypot(noise[rows, end], _UNEXPLAINED)
            missed = np.maximum(np.abs(off) - explained, 0.0)[:, None]
            odd = nonsense_sd(mean[rows] - values[rows, end, None], link=link)
            sd[rows] = np.hypot(sd[rows], np.where(target > unique[end], np.hypot(missed, odd), 0.0))
        return Posterior(mean, sd, link)

    return call


def _honest(law: _Law, own: bool, task: str | None) -> CurveLaw:
    """A built-in law with what it does not know of its form (``reach``), from a prior without ``task``.

    ``own``: the law is the reference itself. A curve that was never measured gets the reference's forecast, since a line
    through nothing says nothing.
    """

    def call(
        sizes: Array, scores: Array, at: Array, *, link: Link, noise_sd: Array, chance: float, **more: Any
    ) -> Posterior:
        prior = shipped_prior(link, task=task)
        known: dict[str, Any] = {"link": link, "noise_sd": noise_sd, "chance": chance, "prior": prior}
        seen = np.isfinite(scores)
        measured: NDArray[np.bool_] = np.asarray(seen.any(axis=1))
        # Each curve's change is counted from its last size, the score before tuning counting as that of one example.
        ends, place = np.unique(np.where(seen, sizes, 0.0).max(axis=1, initial=1.0), return_inverse=True)
        told = rectified_law(sizes, scores, np.concatenate([at, ends]), **known)
        ahead = np.log(np.maximum(at, 1.0) / ends[place][:, None])
        beyond = reach_sd(ahead, seen.sum(axis=1), shipped_reach(link, task=task)) * measured[:, None]
        mean, sd = told.mean[:, : len(at)].copy(), np.hypot(told.sd[:, : len(at)], beyond)
        if own:
            return Posterior(mean, sd, link)
        found = law(sizes, scores, np.concatenate([at, ends]), **known, **more)
        rows, column = np.arange(len(scores)), len(at) + place
        change = found.mean[:, : len(at)] - found.mean[rows, column, None]
        apart = discrepancy(change, mean - told.mean[rows, column, None], sd, told.sd[rows, column, None])
        wide = np.hypot(found.sd[:, : len(at)], np.where(ahead > 0, apart, 0.0))
        mean[measured], sd[measured] = found.mean[measured, : len(at)], wide[measured]
        return Posterior(mean, sd, link)

    return call


#: What is calibrated by itself (the hierarchical law), and what is widened.
BUILTIN: dict[str, _Law] = {
    "Pooled": _pooled,
    "RectifiedLaw": rectified_law,
    "PowerLaw": _power,
    "NTKRectified": _ntk_rectified,
    "AcceptThenStop": _accept_then_stop,
    "LastTwoPoints": _last_two,
}


#: Laws that take ``worth``.
NEEDS_KERNEL = frozenset({"NTKRectified"})
#: Laws that take ``parameters`` (n,) and ``family``, names: curves of all models of a task go in together.
SHARES_STRENGTH = frozenset({"Pooled"})


def names() -> tuple[str, ...]:
    """Names of all laws, built in and installed, sorted."""
    return tuple(sorted({*BUILTIN, *entries(GROUP)}))


def curve_law(name: str, *, task: str | None = None) -> CurveLaw:
    """The law of that name, with nothing in it that was learned from ``task``.

    Names of entry points extend the built-in ones and cannot replace them.

    Raises:
        ValueError: with the names that there are, and the nearest.

    >>> curve_law("AcceptThenStop") is curve_law("AcceptThenStop")
    True
    """
    if name not in BUILTIN and name not in entries(GROUP):
        hint = nearest(name, names())
        raise ValueError(f"no learning-curve law is named {name!r}; write one of: {', '.join(names())}{hint}")
    return _behind_the_door(name, task)


@cache
def _behind_the_door(name: str, task: str | None) -> CurveLaw:
    if name not in BUILTIN:
        return guarded(entries(GROUP)[name].load())
    if name == "Pooled":  # has its own spread for all of this
        return guarded(lambda *a, **known: _pooled(*a, **known, prior=shipped_pooled_prior(known["link"], task=task)))
    return guarded(_honest(BUILTIN[name], name == "RectifiedLaw", task))
