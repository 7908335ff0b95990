"""The shots benchmark on curves that do what the law says."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks import shots

pytestmark = pytest.mark.unit

GRID = np.array([0.0, 1, 2, 4, 8, 16, 32])


def test_curves_that_saturate_are_forecast_better_than_by_any_baseline() -> None:
    rng = np.random.default_rng(0)
    level, gain, speed = rng.normal(-0.6, 0.6, 5), rng.normal(1.5, 0.6, 5), np.exp(rng.normal(-1.5, 0.5, 5))
    task = np.repeat(np.arange(5), 4)
    dip = 0.5 * (rng.random((20, 1)) < 0.3) * (GRID == 1)
    z = level[task, None] + gain[task, None] * (1 - np.exp(-speed[task, None] * GRID)) - dip
    z += 0.2 * rng.standard_normal(z.shape) * (GRID > 0)
    scores = rng.binomial(120, 1 / (1 + np.exp(-z))) / 120
    names, seeds = [f"task {t}" for t in task], [str(i % 4) for i in range(20)]
    table = shots.Table(names, ["model"] * 20, seeds, GRID, scores, np.full_like(scores, 120.0), np.full(20, 0.25))
    found = shots.summarise(shots.evaluate(table))
    assert found["mae"] < 0.9 * min(found[f"{name}.mae"] for name in ("two_point", "least_squares", "last", "mean"))
    assert found["k8.mae"] < found["k8.two_point.mae"]
    assert found["coverage90"] > 0.8 and found["k8.coverage90"] > 0.8
