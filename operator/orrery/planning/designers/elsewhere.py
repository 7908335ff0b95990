"""What a trial on one model would tell about the plan's other models, which nobody has to load for it.

Small siblings of a family foretell the large one, item by item (``strategies.family``), and a task that one model's frozen
features separate, another's nearly do (the proxy). Without this value a small sibling would be measured for its own sake only,
and never where it is no candidate worth taking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from orrery.api.models import Model
from orrery.api.probe import Method
from orrery.laws.posterior import Array, Link
from orrery.planning.designers.scene import Scene
from orrery.strategies import family, peers
from orrery.strategies.base import Evidence, Group, Proposal
from orrery.strategies.fine_tuning import ENSEMBLE, sampling_sd
from orrery.strategies.trials import Identity, evaluation_size, identity, observed

#: Link-scale error of a forecast from two siblings: 3.6 points on average in simulated families (docs/concepts/planning.md).
TELLING_SD = 0.2
#: What the first of two siblings is credited of what both will tell.
_HALF = 0.5


@dataclass(frozen=True)
class Telling:
    """How well a measurement of one model tells the same one of another."""

    noise: float  #: link-scale error, beside that of the items
    share: float  #: of what is told, that this measurement is credited with


def telling(
    scene: Scene, small: str, large: Model, asked: Identity, imagined: Mapping[str, Sequence[Evidence]]
) -> Telling | None:
    """What measuring ``asked`` on the model ``small`` tells of its family's ``large``; None when it tells nothing.

    A forecast needs siblings of two sizes, both smaller: the first brings half, the second the rest; each further one tells
    as well as its fair share of them.
    """
    if large.family is None or scene.groups.link is not Link.LOGIT or asked[2] != Method.DIRECT.value or asked[3]:
        return None
    sizes = _smaller(scene, large)
    seen = {
        size
        for name, size in sizes.items()
        if any(
            identity(e.trial) == asked and observed(e.result, scene.groups.link) is not None
            for e in (*scene.known.evidence.get(name, ()), *imagined.get(name, ()))
        )
    }
    if small not in sizes or sizes[small] in seen or len(set(sizes.values())) < family.LEAST_SIBLINGS:
        return None
    after = len(seen) + 1
    further = after > family.LEAST_SIBLINGS
    return Telling(TELLING_SD * (sqrt(2.0) if further else 1.0), 1.0 if after >= family.LEAST_SIBLINGS else _HALF)


def _smaller(scene: Scene, large: Model) -> dict[str, int]:
    """Parameters of the family's smaller models, as far as sizes are known."""
    sizes = {}
    for m in scene.spec.models:
        facts = scene.known.model_facts.get(m.name) or m.facts
        if m.family == large.family and facts is not None and m.name not in scene.known.lost_models:
            sizes[m.name] = facts.parameters
    own = sizes.get(large.name)
    return {} if own is None else {name: size for name, size in sizes.items() if size < own}


def of_proxy(view: Group, imagined: Mapping[str, Sequence[Evidence]]) -> Telling | None:
    """What another model's proxy tells of a group that has none; only the first does, the next nearly repeat it."""
    awaited = any(e.trial.fidelity.method is Method.PROXY for seen in imagined.values() for e in seen)
    if view.probing.predictor != ENSEMBLE or awaited or peers.told(view):
        return None
    return Telling(peers.prior(view).peer_sd, 1.0)


def shift(view: Group, sd: Array, own: Proposal, told: Telling) -> Array:
    """How far the other model's measurement would move this group's forecasts, (n,).

    Args:
        view: the group with its evidence.
        sd: (n,) link-scale sd of its forecasts.
        own: the same measurement of the group's own model, with its shift.
        told: how much less the other model's tells.
    """
    variance = float(sd[int(np.argmax(np.abs(own.shift)))]) ** 2
    score = 0.5 if own.expected_score is None else own.expected_score
    center = view.link.forward(np.clip(np.array([score]), 1e-3, 1 - 1e-3))
    direct = float(sampling_sd(view, center, evaluation_size(view))[0]) ** 2
    return np.asarray(own.shift * told.share * sqrt((variance + direct) / (variance + direct + told.noise**2)))
