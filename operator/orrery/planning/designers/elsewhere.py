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
from orrery.api.probe import Method, Trial
from orrery.laws.posterior import Array, Link
from orrery.planning.designers.scene import Scene
from orrery.strategies import family
from orrery.strategies.base import Evidence, Group, Proposal, Strategy
from orrery.strategies.fine_tuning import FineTuning, sampling_sd
from orrery.strategies.trials import Identity, evaluation_size, identity, observed

#: Link-scale error of a forecast from two siblings: 3.6 points on average in simulated families (docs/concepts/planning.md).
TELLING_SD = 0.2
#: What the first of two siblings is credited of what both will tell.
_HALF = 0.5


@dataclass(frozen=True)
class Telling:
    """How well a measurement of a small sibling tells the same one of a large model."""

    noise: float  #: link-scale error
    share: float  #: of what is told, that this measurement is credited with


def telling(
    scene: Scene, small: str, large: Model, asked: Identity, imagined: Mapping[str, Sequence[Evidence]]
) -> Telling | None:
    """What measuring ``asked`` on the model ``small`` tells of ``large``; None when it tells nothing.

    A forecast needs siblings of two sizes, both smaller: the first brings half, the second the rest, and each further one
    as much again as a fair share of their number.
    """
    sizes = _smaller(scene, large)
    if scene.groups.link is not Link.LOGIT or small not in sizes or asked[2] != Method.DIRECT.value or asked[3]:
        return None
    seen = {
        size
        for name, size in sizes.items()
        if any(
            identity(e.trial) == asked and observed(e.result, scene.groups.link) is not None
            for e in (*scene.known.evidence.get(name, ()), *imagined.get(name, ()))
        )
    }
    if sizes[small] in seen or len(set(sizes.values())) < family.LEAST_SIBLINGS:
        return None
    after = len(seen) + 1
    further = after > family.LEAST_SIBLINGS
    return Telling(TELLING_SD * (sqrt(2.0) if further else 1.0), 1.0 if after >= family.LEAST_SIBLINGS else _HALF)


def _smaller(scene: Scene, large: Model) -> dict[str, int]:
    """Parameters of the family's smaller models, as far as sizes are known."""
    if large.family is None:
        return {}
    sizes = {}
    for m in scene.spec.models:
        facts = scene.known.model_facts.get(m.name) or m.facts
        if m.family == large.family and facts is not None and m.name not in scene.known.lost_models:
            sizes[m.name] = facts.parameters
    own = sizes.get(large.name)
    return {} if own is None else {name: size for name, size in sizes.items() if size < own}


def shift(
    plugin: Strategy, view: Group, sd: Array, proposals: Sequence[Proposal], trial: Trial, told: Telling | None
) -> Array | None:
    """How far a trial on another model would move this group's forecasts, (n,); None when it would not.

    Args:
        plugin, view: the group's strategy, and the group with its evidence.
        sd: (n,) link-scale sd of its forecasts.
        proposals: what the group could ask of its own model: siblings tell the same, less well.
        trial: the other model's.
        told: what ``telling`` says of it.
    """
    if isinstance(plugin, FineTuning):
        return plugin.told_by_peer(view, trial)
    if told is None:
        return None
    own = next((p for p in proposals if identity(p.trial) == identity(trial) and p.expected_score is not None), None)
    if own is None or own.expected_score is None:
        return None
    variance = float(sd[int(np.argmax(np.abs(own.shift)))]) ** 2
    center = view.link.forward(np.clip(np.array([own.expected_score]), 1e-3, 1 - 1e-3))
    direct = float(sampling_sd(view, center, evaluation_size(view))[0])
    weaker = sqrt((variance + direct**2) / (variance + max(told.noise, direct) ** 2))
    return np.asarray(own.shift * told.share * weaker)
