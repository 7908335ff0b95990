"""Curves are the forecasts that decided, and the measurements they rest on."""

import numpy as np
import pytest

from orrery.report.curves import curves

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def drawn(answered):
    return curves(answered.plan, answered.rows, answered.records)


@pytest.mark.parametrize(("family", "parameter"), [("learning", "dataPercent"), ("shots", "shots")])
def test_at_the_grids_values_the_curve_is_the_candidates_own_forecast(answered, drawn, family, parameter):
    compared = 0
    for curve in getattr(drawn, family):
        for row in answered.rows:
            pairs = dict(row.configuration)
            rest = ", ".join(f"{k} {v}" for k, v in row.configuration if k != parameter)
            if (row.model, row.strategy, rest) != (curve.model, curve.strategy, curve.configuration):
                continue
            x = float(pairs[parameter]) * (400 / 100 if parameter == "dataPercent" else 1)
            i = curve.x.index(x)
            found = [curve.median[i], curve.lower[i], curve.upper[i]]
            assert found == pytest.approx([row.quality.median, row.quality.lower, row.quality.upper], rel=1e-6)
            compared += 1
    assert compared >= 2


def test_bands_hold_their_line_and_sizes_rise(drawn):
    for curve in [*drawn.learning, *drawn.shots]:
        assert (np.diff(curve.x) >= 0).all()
        assert (np.array(curve.lower) <= curve.median).all() and (np.array(curve.median) <= curve.upper).all()


def test_points_are_what_probes_reported(answered, drawn):
    reported = {float(t.score) for r in answered.records for t in r.report.trials if t.score is not None}
    points = [p for c in [*drawn.learning, *drawn.shots] for p in c.points]
    assert points and {p.score for p in points} <= reported


def test_zero_shot_is_where_the_shots_curve_begins(drawn):
    assert any(p.x == 0 for c in drawn.shots for p in c.points)


def test_without_a_probe_sizes_are_assumed(answered):
    bare = curves(answered.plan, answered.rows, [])
    assert bare.assumed_examples and max(bare.learning[0].x) == 1000 and not bare.learning[0].points
