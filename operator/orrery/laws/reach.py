"""What a law does not know of its own form, far from what was seen.

A law's interval speaks of noise and of its parameters, not of its being the wrong law: 90 % intervals of the power law and
of lines in log-log held 13 to 67 % of published losses 256 times beyond two to four sizes. Three things widen them:

* **Where another law would go.** The rectified law under a prior of other tasks is the reference: a law that falls further
  or less far from the last measured size than the reference is off by as much as the two differ, beside what the
  reference does not know itself (model discrepancy: Kennedy and O'Hagan 2001, doi 10.1111/1467-9868.00294).
* **The reach.** Curves of a new task leave the reference by an sd that grows with ln(target / last size). The numbers are
  learned from measured curves and shipped (``priors/reach.json``), with one version for each task that has not seen it.
* **Nonsense.** A forecast that is worse than the last point, or a factor of e^1 to e^2 from it, may be no change at all: its
  interval holds the last point.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from orrery.laws import rectified
from orrery.laws.posterior import Array, Link, Posterior
from orrery.laws.rectified import RectifiedPrior

#: A curve with one measured size has shown no slope at all; twice the reach is an assumption, docs/decisions has its coverage.
ONE_SIZE = 2.0
#: Link-scale change beyond which a forecast is far outside what was seen: a factor e of a loss, three logits of a share.
_FAR = {Link.LOG: 1.0, Link.LOGIT: 3.0, Link.IDENTITY: np.inf}


@cache
def _shipped() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((resources.files("orrery.laws.priors") / "reach.json").read_text())
    return content


def shipped_reach(link: Link, *, task: str | None = None) -> float:
    """Link-scale sd for each factor e beyond the last measured size, learned without ``task``.

    >>> shipped_reach(Link.LOG) < shipped_reach(Link.LOGIT)
    True
    """
    content = _shipped()["losses" if link is Link.LOG else "shares"]
    asked = (task or "").casefold().removeprefix("bigbench/")
    return float(next((v for k, v in content["without"].items() if k.casefold() == asked), content["all"]))


def reach_sd(ahead: Array, sizes_seen: Array, reach: float) -> Array:
    """Sd (n, p) at ln(target / last size) ``ahead`` (n, p) for curves with ``sizes_seen`` (n,) measured sizes."""
    once = np.where(sizes_seen == 1, ONE_SIZE, 1.0)[:, None]
    return np.asarray(reach * once * np.maximum(ahead, 0.0))


def reference(
    sizes: Array, scores: Array, at: Array, *, link: Link, noise_sd: Array, chance: float, prior: RectifiedPrior
) -> Posterior:
    """Where the rectified law goes, (n, p)."""
    return rectified.fit(sizes, scores, link=link, noise_sd=noise_sd, prior=prior, chance=chance).predict(at)


def discrepancy(fall: Array, told: Array, told_sd: Array, last_sd: Array) -> Array:
    """Sd (n, p) of a law's change ``fall`` from the last size where the reference changes by ``told``.

    ``told_sd`` (n, p) and ``last_sd`` (n, 1) are the reference's own at the targets and at the last size.
    """
    beyond = np.maximum(told_sd**2 - last_sd**2, 0.0)
    return np.asarray(np.sqrt((fall - told) ** 2 + beyond))


def nonsense_sd(change: Array, *, link: Link) -> Array:
    """Sd (n, p) by which a ``change`` from the last point may be none: all of it where it is for the worse, or far."""
    size = np.abs(change)
    worse = change > 0 if link is Link.LOG else change < 0
    far = np.clip(size / _FAR[link] - 1.0, 0.0, 1.0)
    return np.asarray(size * np.where(worse & (link is not Link.IDENTITY), 1.0, far))
