"""SuccessiveHalving: everyone at the cheapest fidelity, the best third at the next, and so on.

Jamieson and Talwalkar 2016 (arXiv 1502.07943), with eta = 3 as in Hyperband (arXiv 1603.06560). The rungs are the plan's
fidelities. What has no cheaper fidelity (zero-shot, in-context learning) competes at every rung with its one score.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from orrery.planning.designers import ladder
from orrery.planning.designers.base import Design
from orrery.planning.designers.ladder import Arm, State
from orrery.planning.designers.scene import Scene
from orrery.planning.reservation import Purse

#: One in so many is promoted.
ETA = 3


@dataclass(frozen=True)
class SuccessiveHalving:
    """A rung is compared when all of its arms are measured; the best are promoted."""

    def design(self, scene: Scene, purse: Purse) -> Design:
        """See ``Designer``; ends when the last survivors are measured in full."""
        left = [arm for arm in ladder.arms(scene) if not arm.lost]
        longest = max((len(arm.rungs) for arm in left), default=0)
        for rung in range(longest):
            wanted = [arm.at(rung) for arm in left if arm.at(rung).state is State.OPEN]
            if wanted or any(arm.at(rung).state is State.RUNNING for arm in left):
                return ladder.start(
                    scene, purse, wanted, f"rung {rung + 1} of {longest} for {len(left)} candidates", "waiting"
                )
            left = best(left, rung)
        return ladder.start(scene, purse, [], "", "successive halving has measured its last survivors in full")


def best(arms: list[Arm], rung: int) -> list[Arm]:
    """The best one in ``ETA`` at a rung, at least one; equals as the arms came."""
    return sorted(arms, key=lambda arm: -arm.at(rung).score)[: max(1, ceil(len(arms) / ETA))]


DESIGNER = SuccessiveHalving()
