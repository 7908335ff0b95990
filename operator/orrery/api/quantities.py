"""Types that carry a unit, and the parsers that refuse what a spec may not hold.

Kubernetes specs hold no floats (two clients may print one number differently), so money, shares and learning rates are
decimal strings. Parsing happens once, here; past this door nothing is a bare string.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Annotated, Any, NewType

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo, WithJsonSchema

Seconds = NewType("Seconds", float)

DECIMAL_PATTERN = r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,9})?$"
SHARE_PATTERN = r"^(0(\.[0-9]{1,9})?|1(\.0{1,9})?)$"
NUMBER_PATTERN = r"^-?(0|[1-9][0-9]{0,29})(\.[0-9]{1,30})?([eE][-+]?[0-9]{1,3})?$"
#: Validation context of a manifest: exactly what the API server takes, so that both say the same of a plan. Without it
#: (made by code, reports of probes) whole numbers are taken too, and digits past the last that counts are rounded.
WIRE = {"wire": True}
_NUMBER_LIMIT = Decimal(10) ** 30
#: Enough for 30 digits before the point and 30 after it; the default context would cut at 28.
_EXACT = Context(prec=64)


def format_decimal(value: Decimal) -> str:
    """Plain notation without trailing zeros: equal amounts have equal bytes.

    >>> format_decimal(Decimal("1.50")), format_decimal(Decimal("1E+2")), format_decimal(Decimal("0.000"))
    ('1.5', '100', '0')
    """
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text if text not in ("-0", "") else "0"


def on_wire(info: ValidationInfo) -> bool:
    """Whether a manifest is being parsed (see ``WIRE``)."""
    return bool(info.context and info.context.get("wire"))


def _allowed(text: str, pattern: str, example: str) -> str:
    """The text itself where it only lacks its quotes: nobody is told to write what is refused next."""
    return text if re.fullmatch(pattern, text) else example


def _decimal(value: Any, info: ValidationInfo, pattern: str, example: str) -> Decimal:
    if isinstance(value, float):
        hint = _allowed(repr(value), pattern, example)
        raise ValueError(f"is the float {value!r}: write a decimal string such as '{hint}' in quotes")
    if isinstance(value, bool):
        raise ValueError(f"is {str(value).lower()}: write a decimal string such as '{example}' in quotes")
    if isinstance(value, int) and on_wire(info):
        if not re.fullmatch(pattern, str(value)):
            raise ValueError(f"is the number {value}: write a decimal string such as '{example}' in quotes")
        raise ValueError(f"is the number {value}: write it in quotes, '{value}'")
    if not isinstance(value, (int, str, Decimal)):
        raise ValueError(f"is {value!r}: write a decimal string such as '{example}' in quotes")
    wanted = pattern if on_wire(info) else NUMBER_PATTERN
    if isinstance(value, str) and (len(value) > 96 or not re.fullmatch(wanted, value)):
        raise ValueError(f"is {value[:96]!r}: write a decimal string such as '{example}' in quotes")
    number = Decimal(value)
    if not number.is_finite():
        raise ValueError(f"is {value!r}: write a finite decimal string such as '{example}' in quotes")
    return number


def _places(number: Decimal) -> int:
    return max(0, -int(number.normalize(_EXACT).as_tuple().exponent))


def _money(value: Any, info: ValidationInfo) -> Decimal:
    if isinstance(value, str) and value.startswith("-"):
        raise ValueError(f"is {value!r}, below zero: write an amount of '0' or more, such as '2.50'")
    bounds = "write an amount below 10^12, without leading zeros and with at most 9 decimals, such as '2.50'"
    if (
        isinstance(value, str)
        and re.fullmatch(r"[0-9]+(\.[0-9]+)?", value)
        and not re.fullmatch(DECIMAL_PATTERN, value)
    ):
        raise ValueError(f"is '{value[:96]}': {bounds}")
    number = _decimal(value, info, DECIMAL_PATTERN, "2.50")
    if number < 0:
        raise ValueError(f"is {value!r}, below zero: write an amount of '0' or more, such as '2.50'")
    if number >= Decimal(10) ** 12 or _places(number) > 9:
        raise ValueError(f"is {value!r}: {bounds}")
    return number


def _share(value: Any, info: ValidationInfo) -> Decimal:
    number = _decimal(value, info, NUMBER_PATTERN, "0.9")
    if not 0 <= number <= 1 or (on_wire(info) and not re.fullmatch(SHARE_PATTERN, value)):
        raise ValueError(f"is {value!r}: write a share between '0' and '1' with at most 9 decimals, such as '0.9'")
    return round(number, 9) if _places(number) > 9 else number


def _number(value: Any, info: ValidationInfo) -> Decimal:
    number = _decimal(value, info, NUMBER_PATTERN, "0.85")
    if abs(number) >= _NUMBER_LIMIT:
        raise ValueError(f"is {value!r}: write a number below 10^30, such as '0.85'")
    return number.quantize(Decimal(10) ** -30, context=_EXACT) if _places(number) > 30 else number


def _schema(pattern: str, description: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "maxLength": 72, "description": description})


_text = PlainSerializer(format_decimal, return_type=str)

#: An amount in the plan's one currency; at most nine decimals, never negative, never a float.
Money = Annotated[
    Decimal, BeforeValidator(_money), _text, _schema(DECIMAL_PATTERN, "Amount as a decimal string, e.g. '2.50'.")
]
#: A number in [0, 1].
Share = Annotated[Decimal, BeforeValidator(_share), _text, _schema(SHARE_PATTERN, "Share between '0' and '1'.")]
#: Any finite decimal, for metric thresholds and reported scores.
Number = Annotated[Decimal, BeforeValidator(_number), _text, _schema(NUMBER_PATTERN, "Number as a decimal string.")]


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
