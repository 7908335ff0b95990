"""Priors learned from measured curves, shipped as numbers.

``losses.json``, ``shots.json``, ``retrieved.json`` and ``neighbours.json`` are written by ``python -m tests.benchmarks.learn_priors``. Each holds the prior of all
measured tasks together and, for each task, the prior of the others: whoever forecasts a task that the numbers were
learned from gets the version that has never seen it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from orrery.laws._shots_forms import ShotsPrior
from orrery.laws.neighbours import VoteError
from orrery.laws.pooled_prior import PooledPrior
from orrery.laws.posterior import Array, Link
from orrery.laws.rectified import ERROR_PRIOR, LOSS_PRIOR, RectifiedPrior
from orrery.laws.tuning_prior import ASSUMED, TuningPrior


def fingerprints(losses: Array) -> list[frozenset[str]]:
    """Short digests of the losses of each curve (n, m), to five digits: tell whether a prior has seen the curve.

    Of every loss alone: a copy of a task under another name is known by what is left of it, with other sizes or models.
    """
    return [
        frozenset(hashlib.sha256(f"{v:.5g}".encode()).hexdigest()[:8] for v in row[np.isfinite(row)])
        for row in np.atleast_2d(losses)
    ]


@cache
def _shipped(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((resources.files(__package__) / f"{name}.json").read_text())
    return content


def _without(content: dict[str, Any], task: str | None) -> dict[str, Any]:
    """The numbers that have not seen a task of this name, in any spelling and with or without its collection's."""
    asked = (task or "").casefold().removeprefix("bigbench/")
    found: dict[str, Any] = next((v for k, v in content["without"].items() if k.casefold() == asked), content["all"])
    return found


def _holds(told: frozenset[str], curve: frozenset[str]) -> bool:
    """Whether half of a curve's losses, and more than one where it has more, are among those a prior was learned from.

    One in a hundred foreign losses is there by chance.
    """
    return bool(curve) and len(curve & told) >= max(min(2, len(curve)), len(curve) / 2)


def shipped_prior(link: Link, *, task: str | None = None, seen: Iterable[frozenset[str]] = ()) -> RectifiedPrior:
    """The shipped prior for losses, or the weak one for shares, which nothing was learned for yet.

    Parameters
    ----------
    task, seen
        Name of the task at hand and the ``fingerprints`` of its curves. Every task of the prior that has the same name,
        in any spelling, or holds one of the curves is left out.
    """
    return shipped_pooled_prior(link, task=task, seen=seen).law


def shipped_pooled_prior(link: Link, *, task: str | None = None, seen: Iterable[frozenset[str]] = ()) -> PooledPrior:
    """The same with everything else that was learned from curves of other tasks."""
    if link is not Link.LOG:
        return PooledPrior(ERROR_PRIOR)
    content, curves = _shipped("losses"), list(seen)
    known = []
    for name, learned in content["tasks"].items():
        told = frozenset(learned["losses"].split())
        if name.casefold() == (task or "").casefold() or any(_holds(told, curve) for curve in curves):
            known.append(name)
    if len(known) > 1:
        return PooledPrior(LOSS_PRIOR)
    numbers = content["without"][known[0]] if known else content["all"]
    arrays = {k: np.asarray(numbers["law"][k], dtype=np.float64) for k in ("mean", "covariance")}
    return PooledPrior(**{**numbers, "law": RectifiedPrior(**{**numbers["law"], **arrays})})


@cache
def shipped_shots_prior(task: str | None = None, *, retrieved: bool = False) -> ShotsPrior:
    """The shipped prior of curves over demonstrations, drawn at random or ``retrieved`` for each item.

    Parameters
    ----------
    task
        Name of the task at hand: the prior is then the one that has not seen it, with or without the collection's name
        before it (``bigbench/``).
    """
    numbers = _without(_shipped("retrieved" if retrieved else "shots"), task)
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in numbers.items()}
    return ShotsPrior(**fields)


@cache
def shipped_tuning_prior(link: Link, task: str | None = None) -> TuningPrior:
    """The shipped prior of fine-tuned shares; for losses, which nothing was learned for yet, the assumed one.

    Parameters
    ----------
    task
        Name of the task at hand: the prior is then the one that has not seen it, with or without the collection's name
        before it (``bigbench/``).
    """
    if link is not Link.LOGIT:
        return ASSUMED
    numbers = _without(_shipped("tuning"), task)
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in numbers.items()}
    return TuningPrior(**fields)


@cache
def shipped_vote_error(task: str | None = None) -> VoteError:
    """How far scores with retrieved demonstrations are from the neighbours' vote, learned without the task at hand.

    Parameters
    ----------
    task
        Its name, with or without the collection's name before it (``bigbench/``).
    """
    return VoteError(**_without(_shipped("neighbours"), task))
