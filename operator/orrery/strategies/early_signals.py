"""What the first steps of trainings tell: which configurations of a model are ahead of the others like them.

A train loss says nothing of a score by itself: it is in another unit, and another model's, another size's or a longer schedule's
starts elsewhere. Among configurations of one model, trained on as many examples for as many epochs and stopped at the same
share of the schedule, the lower loss ends with the better score more often than not (arXiv 2412.13337; ``laws.early``).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from orrery.api.probe import Method, Outcome
from orrery.laws import early
from orrery.strategies.base import Evidence
from orrery.strategies.trials import Identity, identity_of, parameters_of

#: Losses are told to four digits; one that is rounded to nothing is below any that is told.
_LEAST_LOSS = 1e-6


def levels(evidence: Sequence[Evidence], percent: int) -> dict[Identity, float]:
    """ln train loss shortly after a stop at ``percent`` of the schedule, by the identity of the whole training."""
    members = [e for e in evidence if _stopped(e) == percent]
    if not members:
        return {}
    losses = [[max(float(v), _LEAST_LOSS) for v in (e.result.train_loss[0], e.result.train_loss[-1])] for e in members]
    return {_whole(e): float(v) for e, v in zip(members, early.forecast(losses).mean, strict=True)}


def signals(evidence: Sequence[Evidence]) -> dict[Identity, float]:
    """By how much a configuration's early ln loss is above the mean of those like it; nothing for one without company.

    Keys as in ``levels``; of several stops of one training the latest counts.
    """
    found: dict[Identity, float] = {}
    for percent in sorted({p for e in evidence if (p := _stopped(e)) is not None}):
        level = levels(evidence, percent)
        alike: dict[tuple[str, int], list[Identity]] = {}
        for key in level:
            alike.setdefault((dict(key[1]).get("epochs", "1"), key[3]), []).append(key)
        for keys in alike.values():
            if len(keys) > 1:
                centre = fmean(level[k] for k in keys)
                found |= {k: level[k] - centre for k in keys}
    return found


def _stopped(e: Evidence) -> int | None:
    """At which share of the schedule a training was stopped that told its loss; None of any other measurement."""
    told = e.result.outcome is Outcome.MEASURED and len(e.result.train_loss) > 0
    return e.trial.fidelity.schedule_percent if told and e.trial.fidelity.method is Method.EARLY else None


def _whole(e: Evidence) -> Identity:
    return identity_of(e.trial.strategy, parameters_of(e.trial), e.trial.fidelity.training_examples)
