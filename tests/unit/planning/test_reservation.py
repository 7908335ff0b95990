"""The purse: what is set aside counts until it is spent, for every accelerator, and neither limit can be passed."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.api.probe import ProbeSpec
from orrery.planning.advance import advance
from orrery.planning.reservation import Purse, reservation
from orrery.planning.types import CONFIRMING_SEED, ProbeRecord, ProbeState
from tests.unit.planning.plans import PRICES, small

pytestmark = pytest.mark.unit

PLAN = small(
    accelerators=[{"name": "cpu", "count": 2}],
    budget={"maxProbeCost": "1", "maxAcceleratorSeconds": 1000},
    probing={"parallelism": 3, "maxProbes": 5},
)
SPEC = advance(PLAN, [], PRICES).start[0].spec.model_copy(update={"deadline_seconds": 100})


def record(name: str, state: ProbeState = ProbeState.SUCCEEDED, spec: ProbeSpec = SPEC, **known: object) -> ProbeRecord:
    plain = ProbeRecord(name, spec, state, 1, Decimal(0), Decimal(0), 0.0)
    return replace(plain, **known)  # type: ignore[arg-type]


def confirming(spec: ProbeSpec) -> ProbeSpec:
    return spec.model_copy(update={"trials": [t.model_copy(update={"seed": CONFIRMING_SEED}) for t in spec.trials]})


RECORDS = [
    record("ended", cost=Decimal("0.2"), seconds=150.0),
    record("runs", ProbeState.RUNNING, reserved=Decimal("0.3")),
    record("others", cost=Decimal("0.9"), seconds=900.0, reused=True),
    record("confirms", ProbeState.RUNNING, confirming(SPEC), reserved=Decimal("0.4"), cost=Decimal("0.1")),
]


def test_searching_and_confirming_have_purses_of_their_own_and_what_others_paid_is_in_none() -> None:
    assert RECORDS[-1].confirming and not RECORDS[1].confirming
    search, confirm = Purse.of(PLAN.spec, RECORDS), Purse.of(PLAN.spec, RECORDS, confirming=True)
    assert (search.spent, search.reserved, search.left) == (Decimal("0.2"), Decimal("0.3"), Decimal("0.5"))
    assert (confirm.spent, confirm.reserved) == (Decimal("0.1"), Decimal("0.4"))
    assert (search.slots, search.probes_left) == (2, 3)


def test_a_deadline_holds_every_accelerator_of_its_probe() -> None:
    purse = Purse.of(PLAN.spec, RECORDS)
    assert purse.seconds_reserved == 2 * 100 and purse.seconds_left == 1000 - 150 - 200
    assert purse.longest(Decimal("0.001"), 2) == 325, "half of the 650 accelerator-seconds that are left"
    assert purse.longest(Decimal("0.002"), 2) == 250, "what half a unit of money pays"
    assert purse.longest(Decimal(0), 1) == 650


def test_what_is_taken_is_set_aside_in_money_time_places_and_number() -> None:
    purse = Purse.of(PLAN.spec, RECORDS)
    purse.take(Decimal("0.3"), 300, new=True)
    assert (purse.left, purse.seconds_left, purse.slots, purse.probes_left) == (Decimal("0.2"), 350, 1, 2)
    for much, seconds in ((Decimal("0.3"), 1), (Decimal("0.1"), 351)):
        with pytest.raises(ValueError, match="does not fit"):
            purse.take(much, seconds, new=True)
    purse.take(Decimal("0.1"), 10, new=False)
    assert (purse.slots, purse.probes_left) == (0, 2), "a further attempt is no further probe"
    with pytest.raises(ValueError, match="does not fit"):
        purse.take(Decimal("0.01"), 1, new=False)
    last = replace(Purse.of(PLAN.spec, RECORDS), probes_left=0)
    with pytest.raises(ValueError, match="does not fit"):
        last.take(Decimal("0.01"), 1, new=True)
    last.take(Decimal("0.01"), 1, new=False)


@settings(max_examples=60, deadline=None)
@given(st.decimals("0", "2", places=9), st.decimals("0.000000001", "0.01", places=9))
def test_the_longest_deadline_is_affordable_and_the_longest(money: Decimal, price: Decimal) -> None:
    purse = replace(Purse.of(PLAN.spec, []), limit=money, seconds_limit=None)
    longest = purse.longest(price, 1)
    assert longest == 0 or purse.affords(reservation(longest, price), longest)
    # money is set aside in millionths, so the second after the next is surely out of reach
    assert reservation(longest, price) + 2 * price + Decimal("0.000002") > purse.left


def test_a_deadline_whose_rounding_up_would_pass_the_budget_is_a_second_shorter() -> None:
    purse = replace(Purse.of(PLAN.spec, []), limit=Decimal("0.0000015"), seconds_limit=None)
    assert purse.longest(Decimal("0.0000007"), 1) == 1
