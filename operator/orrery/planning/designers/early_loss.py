"""EarlyLoss: the first tenth of everyone's training, and the whole of those that are ahead.

Of many configurations of one model, train loss after a tenth of the steps ranks them nearly as their final scores do (arXiv
2412.13337; Spearman .95 on 29 measured runs of a 3B model, docs/benchmarks/early_pick.md), for a tenth of the price and without an
evaluation. A second look would cost the first once more, since a probe that ended cannot go on. The best of each model are then
trained in full: losses of two models are not comparable, their scores are. What trains nothing is measured as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from orrery.api.probe import Method
from orrery.planning.designers import ladder
from orrery.planning.designers.base import Design
from orrery.planning.designers.ladder import Arm, Rung, State
from orrery.planning.designers.scene import Scene
from orrery.planning.designers.successive_halving import ETA
from orrery.planning.reservation import Purse

#: Share of the schedule after which everyone is stopped.
PERCENT = 10
#: One in so many of a model's trainings is run in full: what two rungs of successive halving would leave.
PROMOTED = ETA**2


@dataclass(frozen=True)
class EarlyLoss:
    """Breadth at a tenth of the price, then the best of each model in full."""

    def design(self, scene: Scene, purse: Purse) -> Design:
        """See ``Designer``; ends when the best of every model were trained in full."""
        arms = [arm for arm in ladder.arms(scene, early=PERCENT) if not arm.lost]
        untrained = [arm.rungs[0] for arm in arms if not arm.rungs[0].examples]
        trained = [arm for arm in arms if arm.rungs[0].examples]
        first = [rung for rung in [*untrained, *(arm.rungs[0] for arm in trained)] if rung.state is State.OPEN]
        if scene.known.task_facts is None:
            first = first[:1]  # brings the number of examples, and with it everyone's schedule
        models = sorted({arm.rungs[0].option.model for arm in trained})
        whole = [rung for model in models for rung in _ahead([a for a in trained if a.rungs[0].option.model == model])]
        return ladder.start(
            scene,
            purse,
            [*first, *whole],
            "the first steps of every training, then the whole of those that are ahead",
            "the configurations whose train loss was ahead early were measured in full",
            all_of_them=True,
        )


def _ahead(arms: list[Arm]) -> list[Rung]:
    """The whole trainings to run of one model's arms, best first, once all of them have begun."""
    early = [arm for arm in arms if arm.rungs[0].option.trial.fidelity.method is Method.EARLY]
    if any(arm.rungs[0].state is not State.MEASURED for arm in early):
        return []
    best = sorted(early, key=lambda arm: -arm.rungs[0].score)[: ceil(len(early) / PROMOTED)]
    return [arm.rungs[-1] for arm in best if arm.rungs[-1].state is State.OPEN]


DESIGNER = EarlyLoss()
