"""Types that carry a unit, and the parsers that refuse what a spec may not hold.

Kubernetes specs hold no floats (two clients may print one number differently), so money, shares and learning rates are
decimal strings. Parsing happens once, here; past this door nothing is a bare string.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, NewType

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

Seconds = NewType("Seconds", float)
Flops = NewType("Flops", float)
Tokens = NewType("Tokens", float)
Bytes = NewType("Bytes", int)

DECIMAL_PATTERN = r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,9})?$"
NUMBER_PATTERN = r"^-?[0-9]{1,12}(\.[0-9]{1,12})?([eE][-+]?[0-9]{1,3})?$"


def format_decimal(value: Decimal) -> str:
    """Plain notation without trailing zeros: equal amounts have equal bytes.

    >>> format_decimal(Decimal("1.50")), format_decimal(Decimal("1E+2")), format_decimal(Decimal("0.000"))
    ('1.5', '100', '0')
    """
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text if text not in ("-0", "") else "0"


def _decimal(value: Any) -> Decimal:
    if isinstance(value, (bool, float)):
        raise ValueError(f"is the float {value!r}: write a decimal string such as '{value}' in quotes")
    if isinstance(value, (int, str, Decimal)):
        try:
            number = Decimal(value.strip() if isinstance(value, str) else value)
        except InvalidOperation:
            raise ValueError(f"is {value!r}: write a decimal number in quotes, such as '2.50'") from None
        if not number.is_finite():
            raise ValueError(f"is {value!r}: write a finite decimal number in quotes, such as '2.50'")
        return number
    raise ValueError(f"is {value!r}: write a decimal number in quotes, such as '2.50'")


def _money(value: Any) -> Decimal:
    number = _decimal(value)
    if number < 0:
        raise ValueError(f"is {value!r}, below zero: write an amount of 0 or more, such as '2.50'")
    if number >= Decimal(10) ** 12 or (number.as_tuple().exponent < -9 and number.normalize().as_tuple().exponent < -9):  # type: ignore[operator]  # finite: the exponent is an int
        raise ValueError(f"is {value!r}: write an amount below 10^12 with at most 9 decimals, such as '2.50'")
    return number


def _share(value: Any) -> Decimal:
    number = _decimal(value)
    if not 0 <= number <= 1:
        raise ValueError(f"is {value!r}: write a share between '0' and '1', such as '0.9'")
    return number


def _schema(pattern: str, description: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "maxLength": 32, "description": description})


_text = PlainSerializer(format_decimal, return_type=str)

#: An amount in the plan's one currency; at most nine decimals, never negative, never a float.
Money = Annotated[
    Decimal, BeforeValidator(_money), _text, _schema(DECIMAL_PATTERN, "Amount as a decimal string, e.g. '2.50'.")
]
#: A number in [0, 1].
Share = Annotated[
    Decimal, BeforeValidator(_share), _text, _schema(r"^(0(\.[0-9]{1,9})?|1(\.0{1,9})?)$", "Share between '0' and '1'.")
]
#: Any finite decimal, for metric thresholds and reported scores.
Number = Annotated[Decimal, BeforeValidator(_decimal), _text, _schema(NUMBER_PATTERN, "Number as a decimal string.")]


@dataclass(frozen=True)
class Interval:
    """A central estimate with bounds in the same unit; ``lower <= median <= upper``."""

    median: float
    lower: float
    upper: float


def money(value: float | Decimal) -> Decimal:
    """An estimate (float) or exact amount as money, rounded to a millionth.

    >>> money(0.1 + 0.2)
    Decimal('0.300000')
    """
    return Decimal(repr(float(value)) if isinstance(value, float) else value).quantize(Decimal("0.000001"))
