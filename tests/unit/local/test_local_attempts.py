"""What an attempt costs and how it ended, for every ending there can be."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.local.attempts import AttemptRecord, Ending, cost_of, elapsed, probing_seconds, settle, timestamp
from orrery.planning.reports import Judgement, judge
from tests.unit.local import planner

pytestmark = pytest.mark.unit

endings = st.one_of(
    st.just(Ending()),
    st.builds(Ending, started_at=st.floats(0, 2e9)),
    st.builds(
        Ending,
        started_at=st.floats(0, 2e9),
        code=st.integers(-64, 255),
        cause=st.sampled_from(["Exited", "Terminated", "DeadlineExceeded", "NotExecutable"]),
        seconds=st.floats(0, 1e6),
        finished_at=st.floats(0, 2e9),
    ),
)


def record(deadline=100, price="3.6"):
    reserved = Decimal(price) * deadline / 3600
    return AttemptRecord(
        number=1, phase="Reserved", reserved=reserved, price_per_hour=price, accelerators=2, deadline_seconds=deadline
    )


@settings(max_examples=60, deadline=None)
@given(endings, st.floats(0, 2e9), st.sampled_from(["ReportMissing", "ReportInvalid"]))
def test_every_ending_settles_within_what_was_reserved(ending, now, reason):
    settled = settle(record(), ending, Judgement(None, reason, "why"), now)
    assert settled.ended and settled.reason
    assert 0 <= settled.cost <= settled.reserved
    if ending.started_at is None:
        assert (settled.phase, settled.cost, settled.counted) == ("Void", 0, False)
    elif ending.seconds is None:
        assert settled.cost > 0, "what ran is never free, also when nobody saw its end"
    assert AttemptRecord.model_validate(settled.to_wire()) == settled


@pytest.mark.parametrize(
    ("cause", "code", "reason", "counted"),
    [
        ("Exited", 1, "Crashed", True),
        ("Exited", -9, "OutOfMemory", True),
        ("Exited", 137, "OutOfMemory", True),
        ("Exited", 0, "ReportMissing", True),
        ("Terminated", -15, "Interrupted", False),
        ("DeadlineExceeded", -15, "DeadlineExceeded", True),
        ("NotExecutable", None, "NotExecutable", True),
        (None, None, "Lost", True),
    ],
)
def test_an_ending_has_a_reason_a_price_and_counts_unless_somebody_interrupted_it(cause, code, reason, counted):
    ending = Ending(started_at=1000.0, code=code, cause=cause, seconds=10.0, finished_at=1010.0)
    settled = settle(record(), ending, Judgement(None, "ReportMissing", "why"), 1030.0)
    assert (settled.phase, settled.reason, settled.counted) == ("Failed", reason, counted)
    assert settled.cost == Decimal("0.01") and settled.seconds == 20, "ten seconds of two accelerators, paid together"
    assert settled.retryable == (reason not in ("OutOfMemory", "DeadlineExceeded", "NotExecutable"))


def test_nothing_costs_more_than_was_set_aside_for_it():
    assert cost_of(Decimal("3.6"), 50.0, Decimal("0.1")) == Decimal("0.05")
    assert cost_of(Decimal("3.6"), 200.0, Decimal("0.1")) == Decimal("0.1")
    assert cost_of(Decimal("0.0001"), 1.0, Decimal("0.0000005")) == Decimal("0.0000005")


@pytest.mark.parametrize(("now", "charged"), [(1030.0, 30.0), (5000.0, 100.0), (900.0, 100.0)])
def test_an_unseen_end_is_charged_up_to_now_or_the_deadline(now, charged):
    """Also when the clock was set back: then nobody knows, and the whole deadline was reserved."""
    assert elapsed(Ending(started_at=1000.0), 100, now) == charged


def test_time_is_counted_once_where_probes_overlap_and_not_between_runs():
    def ran(begin, end):
        return record().model_copy(
            update={"started_at": timestamp(begin), "finished_at": timestamp(end) if end else None}
        )

    assert probing_seconds([ran(0, 10), ran(5, 12), ran(100, 110)], now=500) == 22
    assert probing_seconds([ran(0, 10), ran(490, None)], now=500) == 20
    assert probing_seconds([ran(0, 100), ran(5, 12), ran(20, 30)], now=500) == 100, "a short one within a long one"


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_no_bytes_make_the_judge_fail(raw):
    plan = planner.plan("good")
    spec = planner.advance(plan, [], planner.prices(), None).start[0].spec
    judgement = judge(raw, spec, None, 1.0)
    assert judgement.report is None and judgement.reason and judgement.message
