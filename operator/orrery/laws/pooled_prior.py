"""What curves of other tasks teach the forecaster of a new one (``pooled``)."""

from __future__ import annotations

from dataclasses import dataclass

from orrery.laws import rectified
from orrery.laws.catch_up import MEAN_PULL
from orrery.laws.posterior import Link
from orrery.laws.rectified import RectifiedPrior


@dataclass(frozen=True)
class PooledPrior:
    """The rectified law's prior, learned from so many ``tasks`` (0: assumed), the mean pull of tasks that have one, and the
    weight of the present in a choice.

    Numbers that were not learned are those of ``catch_up`` and of a fifth.
    """

    law: RectifiedPrior
    tasks: int = 0
    mean_pull: float = MEAN_PULL
    present: float = 0.2

    def __post_init__(self) -> None:
        if self.tasks < 0:
            raise ValueError(f"tasks is a number of tasks; found {self.tasks}")
        if not self.mean_pull > 0:
            raise ValueError(f"mean_pull is a mean of positive pulls; found {self.mean_pull:g}")
        if not 0 <= self.present <= 1:
            raise ValueError(f"present is a weight in [0, 1]; found {self.present:g}")

    @property
    def widening(self) -> float:
        """Variance of a further task's course relative to what the prior says: 1 + 1 / (T + 1) after T tasks.

        That of a new draw whose mean is known from T draws (Gelman et al., Bayesian Data Analysis, section 2.5) and from
        what was assumed before them, counted as one more.
        """
        return 1 + 1 / (self.tasks + 1) if self.tasks else 1.0

    @classmethod
    def weak(cls, link: Link) -> PooledPrior:
        """Where nothing was learned."""
        return cls(rectified.default_prior(link))
