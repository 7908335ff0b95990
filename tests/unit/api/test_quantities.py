"""Money, shares and numbers: parsed exactly, printed once, refused when two readers could disagree."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from orrery.api.quantities import DECIMAL_PATTERN, NUMBER_PATTERN, SHARE_PATTERN, WIRE, Money, Number, Share, money

pytestmark = pytest.mark.unit

MONEY, SHARE, NUMBER = TypeAdapter[Decimal](Money), TypeAdapter[Decimal](Share), TypeAdapter[Decimal](Number)
quick = settings(max_examples=60, deadline=None)


@quick
@given(st.decimals(min_value=0, max_value=Decimal("999999999999"), places=9))
def test_money_survives_being_written(amount: Decimal) -> None:
    text = MONEY.dump_python(MONEY.validate_python(amount))
    assert re.fullmatch(DECIMAL_PATTERN, text)
    assert MONEY.validate_python(text, context=WIRE) == amount
    assert MONEY.dump_python(MONEY.validate_python(text, context=WIRE)) == text


@quick
@given(st.integers(0, 10**12 - 1), st.integers(0, 9), st.integers(0, 3))
def test_equal_amounts_have_equal_bytes(units: int, places: int, zeros: int) -> None:
    amount = Decimal(units).scaleb(-places)
    padded = f"{amount:f}" + ("0" * zeros if places and places + zeros <= 9 else "")
    assert MONEY.dump_python(MONEY.validate_python(padded)) == MONEY.dump_python(MONEY.validate_python(amount))


@quick
@given(st.one_of(st.text(max_size=12), st.floats(), st.none(), st.booleans(), st.lists(st.integers(), max_size=2)))
def test_what_is_no_money_is_refused_with_an_example(value: object) -> None:
    try:
        amount = MONEY.validate_python(value, context=WIRE)
    except ValidationError as error:
        (detail,) = error.errors()
        assert ": write " in detail["msg"], detail["msg"]
    else:
        assert isinstance(value, str) and re.fullmatch(DECIMAL_PATTERN, value)
        assert amount == Decimal(value)


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "+1", "01", "1.", ".5", "1e3", "1_000", "1,5", "٣", "0x1", "Infinity", "NaN", "-0", "1" * 13],
)
def test_a_manifest_has_one_way_to_write_an_amount(text: str) -> None:
    with pytest.raises(ValidationError):
        MONEY.validate_python(text, context=WIRE)


@quick
@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e29, max_value=1e29))
def test_any_measured_number_can_be_written(value: float) -> None:
    text = NUMBER.dump_python(NUMBER.validate_python(repr(value)))
    assert re.fullmatch(NUMBER_PATTERN, text) and len(text) <= 72
    assert float(text) == pytest.approx(value, rel=1e-12, abs=1e-30)
    assert NUMBER.dump_python(NUMBER.validate_python(text, context=WIRE)) == text


@quick
@given(st.floats(min_value=0, max_value=1))
def test_any_probability_can_be_written(value: float) -> None:
    text = SHARE.dump_python(SHARE.validate_python(repr(value)))
    assert re.fullmatch(SHARE_PATTERN, text)
    assert float(text) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan", "inf", Decimal("NaN"), Decimal("Infinity")])
@pytest.mark.parametrize("adapter", [MONEY, SHARE, NUMBER])
def test_nothing_takes_nan(adapter: TypeAdapter[Decimal], value: object) -> None:
    with pytest.raises(ValidationError):
        adapter.validate_python(value)


def test_an_estimate_becomes_money_to_a_millionth() -> None:
    assert money(0.1 + 0.2) == Decimal("0.3")
    assert money(Decimal("1.0000005")) == Decimal("1.000000")
