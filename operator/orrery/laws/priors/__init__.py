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
from orrery.laws.posterior import Array, Link
from orrery.laws.rectified import ERROR_PRIOR, LOSS_PRIOR, RectifiedPrior
from orrery.laws.tuning_prior import ASSUMED, TuningPrior


def fingerprints(losses: Array) -> list[str]:
    """One short digest a curve (n, m) of its scores to five digits: tells whether a prior has seen it, order aside."""
    return sorted(
        hashlib.sha256(",".join(f"{v:.5g}" for v in row).encode()).hexdigest()[:10] for row in np.atleast_2d(losses)
    )


@cache
def _shipped(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((resources.files(__package__) / f"{name}.json").read_text())
    return content


def shipped_prior(link: Link, *, task: str | None = None, seen: Iterable[str] = ()) -> RectifiedPrior:
    """The shipped prior for losses, or the weak one for shares, which nothing was learned for yet.

    Parameters
    ----------
    task, seen
        Name of the task at hand and the ``fingerprints`` of its curves. Every task of the prior that has the same name
        or one of the curves is left out.
    """
    if link is not Link.LOG:
        return ERROR_PRIOR
    content, curves = _shipped("losses"), set(seen)
    known = [name for name, t in content["tasks"].items() if name == task or curves.intersection(t["curves"])]
    if len(known) > 1:
        return LOSS_PRIOR
    numbers = content["without"][known[0]] if known else content["all"]
    arrays = {k: np.asarray(numbers[k], dtype=np.float64) for k in ("mean", "covariance")}
    return RectifiedPrior(**{**numbers, **arrays})


@cache
def shipped_shots_prior(task: str | None = None, *, retrieved: bool = False) -> ShotsPrior:
    """The shipped prior of curves over demonstrations, drawn at random or ``retrieved`` for each item.

    Parameters
    ----------
    task
        Name of the task at hand: the prior is then the one that has not seen it, with or without the collection's name
        before it (``bigbench/``).
    """
    content = _shipped("retrieved" if retrieved else "shots")
    known = content["without"].get((task or "").removeprefix("bigbench/"))
    numbers: dict[str, Any] = content["all"] if known is None else known
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
    content = _shipped("tuning")
    known = content["without"].get((task or "").removeprefix("bigbench/"))
    numbers: dict[str, Any] = content["all"] if known is None else known
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
    content = _shipped("neighbours")
    numbers = content["without"].get((task or "").removeprefix("bigbench/"), content["all"])
    return VoteError(**numbers)
