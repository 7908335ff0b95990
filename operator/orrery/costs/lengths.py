"""How long a model's own answers are, as probes saw them.

A mean alone hides that the longest answers decide the latency, and differs from what a plan states: models write on where
people would stop (CASTILLO, arXiv 2505.16881). Reports carry five quantiles, the mean and its standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Of the lengths that a report carries.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class AnswerLengths:
    """Tokens of generated answers."""

    mean: float
    error: float  #: standard error of the mean
    quantiles: tuple[float, ...]  #: at ``QUANTILES``

    @property
    def relative_error(self) -> float:
        """Standard error over the mean, at most one; 0 where nothing is written."""
        return min(self.error / self.mean, 1.0) if self.mean > 0 else 0.0

    @property
    def tail_ratio(self) -> float:
        """The 95th percentile over the mean, never below one."""
        return max(self.quantiles[-1] / self.mean, 1.0) if self.mean > 0 else 1.0


def pool(samples: Sequence[tuple[AnswerLengths, int]]) -> AnswerLengths | None:
    """Several samples as one, weighted by their answers (n); None of none.

    Quantiles are averaged (Vincent 1912), which keeps the shape. The samples are mostly of the same items, so that the mean's
    error is no smaller than the mean of theirs; what their means differ by is added.

    >>> pool([(AnswerLengths(10, 1, (1, 5, 9, 12, 20)), 30), (AnswerLengths(14, 1, (3, 7, 13, 18, 30)), 30)]).mean
    12.0
    """
    if not samples:
        return None
    weights = np.array([max(n, 1) for _, n in samples], dtype=np.float64)
    weights /= weights.sum()
    means = np.array([s.mean for s, _ in samples])
    mean = float(weights @ means)
    within = float(weights @ np.array([s.error for s, _ in samples]))
    between = float(np.sqrt(weights @ (means - mean) ** 2))
    quantiles = weights @ np.array([s.quantiles for s, _ in samples])
    return AnswerLengths(mean, float(np.hypot(within, between)), tuple(float(q) for q in quantiles))
