"""What a designer is asked and what it answers: which probes to start now, within the purse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from orrery.planning.designers.scene import Scene
from orrery.planning.reservation import Purse
from orrery.planning.types import ProbeRequest


@dataclass(frozen=True)
class Design:
    """What to start now, and whether anything is left to start later."""

    start: Sequence[ProbeRequest]
    wanted: bool  #: a probe is wanted, now or, when budget, slots or probes are short, later
    unaffordable: Decimal | None  #: cheapest reservation of a wanted probe that did not fit the budget
    expected_seconds: float  #: of the probes to start
    settled: str  #: why nothing more is wanted, for the answer; read when nothing is


class Designer(Protocol):
    """A way to choose probes. Implementations are frozen dataclasses without state.

    What was measured, what runs and what it may cost is in the scene; a designer keeps no memory between steps, and draws
    nothing at random but by the plan's seed, so the same scene gives the same design.
    """

    def design(self, scene: Scene, purse: Purse) -> Design:
        """The probes to start now, best first; takes their reservations out of ``purse``."""
