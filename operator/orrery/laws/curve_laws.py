"""Learning-curve laws by name, all called the same way: what a plan may name as its predictor, and what it is compared with.

A law from elsewhere joins by an entry point in the group ``orrery.curve_laws``: a function with the signature of
``CurveLaw``, named in CamelCase. Laws of ``NEEDS_KERNEL`` take one keyword more, ``worth`` (n,): what pre-training is worth,
read off a measured tangent kernel.
"""

from __future__ import annotations

import difflib
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

import numpy as np

from orrery.laws import accept_then_stop, ntk, pooled, power, rectified
from orrery.laws.accept_then_stop import LinePosterior
from orrery.laws.observations import check_curves
from orrery.laws.posterior import Array, Link, Posterior
from orrery.laws.priors import shipped_prior


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
    gap = np.zeros(len(scores)) if worth is None else worth  # without a kernel it is the power law
    return _with_prior(
        ntk.fit(sizes, scores, gap, link=link, noise_sd=noise_sd).predict(at),
        sizes,
        scores,
        at,
        link=link,
        chance=chance,
    )


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


BUILTIN: dict[str, CurveLaw] = {
    "Pooled": _pooled,
    "RectifiedLaw": _rectified,
    "PowerLaw": _power,
    "NTKRectified": _ntk_rectified,
    "AcceptThenStop": _accept_then_stop,
    "LastTwoPoints": _last_two,
}


#: Laws that take ``worth``.
NEEDS_KERNEL = frozenset({"NTKRectified"})


@cache
def _entries() -> dict[str, EntryPoint]:
    return {e.name: e for e in entry_points(group="orrery.curve_laws")}


def names() -> tuple[str, ...]:
    """Names of all laws, built in and installed, sorted."""
    return tuple(sorted({*BUILTIN, *_entries()}))


def curve_law(name: str) -> CurveLaw:
    """The law of that name; names of entry points extend the built-in ones and cannot replace them.

    Raises:
        ValueError: with the names that there are, and the nearest.

    >>> curve_law("AcceptThenStop") is BUILTIN["AcceptThenStop"]
    True
    """
    if name in BUILTIN:
        return BUILTIN[name]
    if name not in _entries():
        near = difflib.get_close_matches(name.lower(), [n.lower() for n in names()], n=1, cutoff=0.5)
        hint = next((f", such as {n}" for n in names() if near and n.lower() == near[0]), "")
        raise ValueError(f"no learning-curve law is named {name!r}; write one of: {', '.join(names())}{hint}")
    law: CurveLaw = _entries()[name].load()
    return law
