"""The ensemble's 90 % intervals on measured grids, each task forecast with numbers that it had no part in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import pytest

from orrery.laws.posterior import Array
from orrery.strategies.tuning_curves import Points, TuningCurves
from tests.benchmarks.predictors import SHARES, cases, score

pytestmark = pytest.mark.unit

MEASURED = Path(__file__).parents[2] / "benchmarks" / "measured"


def held(shares: Sequence[float] = SHARES) -> tuple[float, float]:
    """Share of 96 full trainings, a share of the data known of each, whose score lay inside; and the mean error in points."""
    found = [row for case in cases(MEASURED) for share in shares if (row := score(case, "Ensemble", share))]
    assert len(found) == 12 * len(shares)
    return fmean(r["coverage90"] for r in found), fmean(r["mae"] for r in found)


def test_nine_in_ten_hold_and_forecasts_are_close() -> None:
    coverage, error = held()
    assert 0.88 <= coverage <= 0.99 and error < 4.5


def test_narrower_ones_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: half the sd holds clearly less."""
    moments = TuningCurves._moments

    def sure(self: TuningCurves, part: Points, harm: bool) -> tuple[Array, Array, Array]:
        mean, sd, hurts = moments(self, part, harm)
        return mean, 0.5 * sd, hurts

    monkeypatch.setattr(TuningCurves, "_moments", sure)
    assert held(SHARES[:1])[0] < 0.8
