"""What the plan's other models and other tasks tell of a model's trainings.

A task that one model's frozen features separate, another's nearly do: on six tasks the proxies of SmolLM2-135M and
all-MiniLM-L6-v2 lie 0 to 6 points apart, and range from .48 to .97. So another model's proxy is read as a less certain one of this
model; how much less is learned (``laws.tuning_prior``).
"""

from __future__ import annotations

from collections.abc import Mapping

from orrery.api.probe import Method
from orrery.laws.priors import shipped_tuning_prior
from orrery.laws.tuning_prior import TuningPrior
from orrery.strategies.base import Group
from orrery.strategies.trials import observed, parameters_of

#: A configuration on a number of examples, and its link-scale value and error.
Reading = tuple[tuple[Mapping[str, str], float], tuple[float, float]]


def prior(group: Group) -> TuningPrior:
    """What other tasks than the group's say of its trainings."""
    builtin = group.task.dataset.source.builtin
    return shipped_tuning_prior(group.link, None if builtin is None else builtin.name)


def reading(group: Group) -> Reading | None:
    """The proxies of the plan's other models as one; half the variance of two models' difference is this model's own."""
    found = []
    for peer in group.peers:
        for e in peer.evidence:
            score = observed(e.result, group.link)
            if e.trial.fidelity.method is Method.PROXY and score is not None:
                found.append((e.trial, *score))
                break
    if not found:
        return None
    k, trial = len(found), max((t for t, _, _ in found), key=lambda t: t.fidelity.training_examples)
    sampling, apart = sum(sd for _, _, sd in found) / k, prior(group).peer_sd
    error = (apart**2 * (1 + 1 / k) / 2 + sampling**2) ** 0.5
    return (parameters_of(trial), float(trial.fidelity.training_examples)), (sum(v for _, v, _ in found) / k, error)


def told(group: Group) -> bool:
    """Whether a proxy of any model is known."""
    everything = [*group.evidence, *(e for p in group.peers for e in p.evidence)]
    return any(e.trial.fidelity.method is Method.PROXY and observed(e.result, group.link) for e in everything)
