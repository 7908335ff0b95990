"""Where two candidates cost the same."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.api.plan import Goal
from orrery.api.quantities import Interval
from orrery.planning.types import ResultRow
from orrery.report.break_even import CostLine, break_even, compare, cost_lines

pytestmark = pytest.mark.unit
ROW = ResultRow(
    "m/s()@cpu", "m", "s", "ZeroShot", (), "cpu", Interval(0.8, 0.7, 0.9), None, None, None, 1.0, 0.0, 1.0, 1.0, False,
    0.5, "Rejected", "no",
)  # fmt: skip


def exact(value):
    return Interval(value, value, value)


def wide(value, factor=1.5):
    return Interval(value, value / factor, value * factor)


def line(once, each, model="m", **changes):
    return CostLine(replace(ROW, model=model, **changes), once, each)


money = st.floats(1e-6, 1e4)


@given(money, money, st.floats(1.01, 100), st.floats(1.01, 100))
@settings(max_examples=50, deadline=None)
def test_at_the_break_even_both_cost_the_same(once, each, dearer, cheaper):
    a, b = line(exact(once), exact(each)), line(exact(once * dearer), exact(each / cheaper), model="n")
    found = break_even(a, b)
    assert found.early is a and found.late is b
    n = found.requests
    assert once + each * n == pytest.approx(once * dearer + each / cheaper * n, rel=1e-6)
    assert found.share == 1 and found.lower == pytest.approx(n) and found.upper == pytest.approx(n)
    assert break_even(b, a) == found


def test_equal_serving_never_crosses():
    """A fine-tuned model without new prompts serves at the cost of the untuned: what training cost is never won back."""
    found = break_even(line(exact(0.0), wide(1e-6)), line(exact(2.0), wide(1e-6)))
    assert found.requests is None and found.share == 0 and found.early.once.median == 0


def test_the_dearer_in_both_never_wins():
    assert break_even(line(exact(1.0), exact(1.0)), line(exact(2.0), exact(2.0), model="n")).requests is None


def test_the_interval_widens_with_the_forecasts():
    a, b = line(exact(0.0), wide(2e-6, 1.1), "m"), line(wide(3.0, 1.1), wide(1e-6, 1.1), "n")
    c, d = line(exact(0.0), wide(2e-6, 2.0), "m"), line(wide(3.0, 2.0), wide(1e-6, 2.0), "n")
    narrow, broad = break_even(a, b), break_even(c, d)
    assert narrow.lower < narrow.requests < narrow.upper
    assert broad.upper - broad.lower > narrow.upper - narrow.lower
    assert broad.share < narrow.share == 1


def test_the_interval_holds_nine_tenths_of_the_crossings():
    """Only what training costs is uncertain, so the crossing is as uncertain as that: a factor of 1.5 each way with 90 %."""
    found = break_even(line(exact(0.0), exact(2e-6)), line(wide(3.0, 1.5), exact(1e-6), model="n"))
    assert found.requests == pytest.approx(3e6)
    assert (found.lower, found.upper) == (pytest.approx(2e6, rel=0.02), pytest.approx(4.5e6, rel=0.02))


def test_one_model_on_one_machine_has_one_unknown_speed():
    """The ratio of two prompts' costs is known though neither cost is: they cross in every draw."""
    found = break_even(line(exact(0.0), wide(2e-6, 3.0)), line(exact(3.0), wide(1e-6, 3.0)))
    assert found.share == 1


def test_the_best_of_each_kind_is_compared():
    def row(name, kind, flops, **changes):
        costs = {"adaptation_cost": exact(flops), "serving_cost": exact(10.0), "total_cost": exact(flops + 10.0)}
        return replace(ROW, candidate=name, type=kind, adaptation_flops=flops, **(costs | changes))

    rows = [
        row("unlikely", "InContext", 0.0, feasible_probability=0.1),
        row("likely", "InContext", 0.0, feasible_probability=0.6),
        row("chosen", "LoRA", 3.0, status="Recommended"),
        row("dear", "FullFineTuning", 9.0, status="Alternative"),
        row("unpriced", "QLoRA", 1.0, serving_cost=None),
    ]
    lines = cost_lines(rows, Goal.MINIMIZE_COST, requests=100)
    assert [entry.row.candidate for entry in lines] == ["chosen", "dear", "likely"]
    assert lines[0].per_request.median == pytest.approx(0.1)
    found = compare(lines)
    assert {found.early.row.candidate, found.late.row.candidate} == {"chosen", "likely"}
    assert compare(lines[:2]) is None and cost_lines(rows, Goal.MINIMIZE_COST, requests=0) == []
