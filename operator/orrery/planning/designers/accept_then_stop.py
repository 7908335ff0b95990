"""AcceptThenStop: every candidate's subset doubles until its curve is a line, which says the rest.

Accept-then-stop (arXiv 2402.02314, algorithm 1) fits a line in log-log through the largest three sizes and accepts the next
smaller one while its residual is at most five standard deviations. Read from the other end it says when a subset may stop
growing: as soon as the line through the last three sizes accepts the one before them, a larger subset would lie on it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orrery.laws import accept_then_stop
from orrery.laws.posterior import Link
from orrery.planning.decision import sense
from orrery.planning.designers import ladder
from orrery.planning.designers.base import Design
from orrery.planning.designers.ladder import Arm, Rung, State
from orrery.planning.designers.scene import Scene
from orrery.planning.reservation import Purse

#: Sizes on one line that end an arm: three make the line, the fourth is accepted by it.
_ON_A_LINE = 4


def doubling(fidelities: Sequence[int], full: int) -> list[int]:
    """From the plan's smallest fidelity on, twice as many each time, below the full size.

    >>> doubling([16, 64], 200)
    [16, 32, 64, 128]
    """
    sizes = [min(fidelities, default=16)]
    while 2 * sizes[-1] < full:
        sizes.append(2 * sizes[-1])
    return [n for n in sizes if n < full]


@dataclass(frozen=True)
class AcceptThenStop:
    """The smallest open subset of whoever still grows."""

    def design(self, scene: Scene, purse: Purse) -> Design:
        """See ``Designer``; ends when every curve is a line or was measured in full."""
        link, sign = scene.groups.link, sense(scene.spec.task.metric)
        growing = [a for a in ladder.arms(scene, doubling) if not (a.lost or _settled(a, link, sign))]
        wanted = [rung for arm in growing if (rung := _next(arm)) is not None]
        wanted.sort(key=lambda rung: rung.examples)
        return ladder.start(
            scene,
            purse,
            wanted,
            "its curve is no line yet",
            "accept-then-stop: every curve is a line or was measured in full",
        )


def _next(arm: Arm) -> Rung | None:
    """The first rung that is not measured, unless it runs."""
    rung = next((r for r in arm.rungs if r.state is not State.MEASURED), None)
    return rung if rung is not None and rung.state is State.OPEN else None


def _settled(arm: Arm, link: Link, sign: float) -> bool:
    """Whether the line through the largest sizes accepts the one before them."""
    seen = [r for r in arm.rungs if r.state is State.MEASURED]
    if len(seen) < _ON_A_LINE:
        return False
    scores = [float(link.inverse(sign * r.score)) for r in seen]
    line = accept_then_stop.fit([float(r.examples) for r in seen], [scores], link=link)
    return bool(line.accepted[0] >= _ON_A_LINE)


DESIGNER = AcceptThenStop()
