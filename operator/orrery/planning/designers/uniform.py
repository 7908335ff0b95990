"""Uniform: the same fidelity for everyone, rung by rung, until the budget ends."""

from __future__ import annotations

from dataclasses import dataclass

from orrery.planning.designers import ladder
from orrery.planning.designers.base import Design
from orrery.planning.designers.scene import Scene
from orrery.planning.reservation import Purse


@dataclass(frozen=True)
class Uniform:
    """The first rung of every arm, then the second of every arm, and so on."""

    def design(self, scene: Scene, purse: Purse) -> Design:
        """See ``Designer``; ends when every arm was measured in full."""
        arms = [arm for arm in ladder.arms(scene) if not arm.lost]
        longest = max((len(arm.rungs) for arm in arms), default=0)
        wanted = [
            arm.rungs[rung]
            for rung in range(longest)
            for arm in arms
            if rung < len(arm.rungs) and arm.rungs[rung].state is ladder.State.OPEN
        ]
        return ladder.start(
            scene, purse, wanted, "one more fidelity for everyone", "every candidate was measured in full"
        )


DESIGNER = Uniform()
