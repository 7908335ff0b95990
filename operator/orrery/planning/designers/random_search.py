"""Random: any measurement of any candidate, in random order, until the budget ends. The baseline of all baselines.

Random search, over fidelities as well as configurations (Bergstra and Bengio 2012, JMLR 13).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orrery.planning.designers import ladder
from orrery.planning.designers.base import Design
from orrery.planning.designers.scene import Scene
from orrery.planning.reservation import Purse


@dataclass(frozen=True)
class Random:
    """Rungs of all arms in an order that the plan's seed decides."""

    def design(self, scene: Scene, purse: Purse) -> Design:
        """See ``Designer``; ends when everything was measured."""
        rungs = [r for arm in ladder.arms(scene) for r in arm.rungs]
        order = np.random.default_rng([scene.spec.probing.seed, 1]).permutation(len(rungs))
        wanted = [rungs[i] for i in order if rungs[i].state is ladder.State.OPEN]
        return ladder.start(
            scene, purse, wanted, "next in random order", "every candidate was measured at every fidelity"
        )


DESIGNER = Random()
