"""ASHA: successive halving that never waits: promote whoever is among the best so far, else begin with another candidate.

Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934, algorithm 2), eta = 3, rungs as in ``successive_halving``.
"""

from __future__ import annotations

from dataclasses import dataclass

from orrery.planning.designers import ladder
from orrery.planning.designers.base import Design
from orrery.planning.designers.ladder import Arm, Rung, State
from orrery.planning.designers.scene import Scene
from orrery.planning.designers.successive_halving import ETA
from orrery.planning.reservation import Purse


@dataclass(frozen=True)
class Asha:
    """Promotions from the highest rung down, then new arms."""

    def design(self, scene: Scene, purse: Purse) -> Design:
        """See ``Designer``; ends when nobody is left to begin with or to promote."""
        arms = [arm for arm in ladder.arms(scene) if not arm.lost]
        longest = max((len(arm.rungs) for arm in arms), default=0)
        wanted = [rung for k in range(longest - 2, -1, -1) for rung in _promoted(arms, k)]
        wanted += [arm.rungs[0] for arm in arms if arm.rungs[0].state is State.OPEN]
        return ladder.start(
            scene, purse, wanted, "among the best third at its rung, or new", "ASHA has nobody left to promote"
        )


def _promoted(arms: list[Arm], k: int) -> list[Rung]:
    """The next rungs of those among the best third of rung ``k`` who have not been there."""
    done = sorted((arm for arm in arms if arm.at(k).state is State.MEASURED), key=lambda arm: -arm.at(k).score)
    top = done[: len(done) // ETA]
    return [arm.rungs[k + 1] for arm in top if len(arm.rungs) > k + 1 and arm.rungs[k + 1].state is State.OPEN]


DESIGNER = Asha()
