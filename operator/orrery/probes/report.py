"""A probe's report: numbers that repeat exactly, packed bits, at most 4,096 bytes, on disk at every step."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

from orrery.api.probe import REPORT_LIMIT, Report, TrialResult
from orrery.api.quantities import format_decimal


def number(value: float) -> Decimal:
    """Six significant digits, at most twelve decimals; more would be noise and would not fit 4,096 bytes.

    Raises ``FloatingPointError`` for what is not finite, which the frame records as ``Diverged``.

    >>> number(1 / 3), number(123456789.0)
    (Decimal('0.333333'), Decimal('123457000'))
    """
    if not math.isfinite(value):
        raise FloatingPointError(f"a measured number is {value}")
    return Decimal(format_decimal(round(Decimal(format(value, ".6g")), 12)))


def pack_bits(right: Sequence[bool]) -> str:
    """Base64 of the items' bits: the first item is the first byte's highest bit; the last byte is filled with zeros.

    >>> pack_bits([True, False, True])
    'oA=='
    """
    padded = list(right) + [False] * (-len(right) % 8)
    groups = (padded[i : i + 8] for i in range(0, len(padded), 8))
    return base64.b64encode(bytes(sum(bit << (7 - i) for i, bit in enumerate(group)) for group in groups)).decode()


def unpack_bits(bits: str, items: int) -> list[bool]:
    """What ``pack_bits`` packed.

    Raises ``ValueError`` when the text is not base64 or does not hold that many items.

    >>> unpack_bits("oA==", 3)
    [True, False, True]
    """
    data = base64.b64decode(bits, validate=True)
    if len(data) != (items + 7) // 8:
        raise ValueError(f"bits hold {len(data)} bytes, and {items} items need {(items + 7) // 8}")
    return [bool(data[i // 8] >> (7 - i % 8) & 1) for i in range(items)]


def encode(report: Report) -> bytes:
    """Compact JSON of a report, never above ``REPORT_LIMIT`` bytes.

    When it would be, optional things go, in this order and no further than needed: the trials' train losses, their
    messages, their bits (the longest first), peak memory, tokens and FLOPs, seconds, standard errors, the facts of the
    task and of the model, at last whole trials from the end, and ``error`` says how many.
    """
    for smaller in _ever_smaller(report):
        data = _bytes(smaller)
        if len(data) <= REPORT_LIMIT:
            return data
    raise AssertionError("a report without trials fits")  # bounded fields: its text is cut below


def write_report(report: Report, path: Path) -> None:
    """Write a report so that a reader never sees half of one.

    A Pod's termination log is a mounted file that cannot be renamed over: there, it is written in place in one call.
    """
    data = encode(report)
    if not path.exists() or (path.is_file() and not path.is_mount()):
        staged = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with staged.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            staged.replace(path)
            return
        except OSError:
            with contextlib.suppress(OSError):
                staged.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.write(data)


def _bytes(report: Report) -> bytes:
    wire = report.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    wire = {"version": report.version, **wire}
    return json.dumps(wire, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


_STEPS: tuple[tuple[str, ...], ...] = (
    ("train_loss",),
    ("message",),
    ("bits",),
    ("peak_memory_bytes",),
    ("train_tokens", "evaluation_tokens", "train_flops", "evaluation_flops"),
    ("train_seconds", "evaluation_seconds", "request_tokens", "output_tokens"),
    ("standard_error",),
)


def _ever_smaller(report: Report) -> Iterator[Report]:
    trials = list(report.trials)

    def current(**changes: object) -> Report:
        return report.model_copy(update={"trials": list(trials), **changes})

    yield current()
    for fields in _STEPS:
        blank = {name: TrialResult.model_fields[name].get_default(call_default_factory=True) for name in fields}
        for index in sorted(range(len(trials)), key=lambda i: (-len(trials[i].bits or ""), -i)):
            if all(getattr(trials[index], name) == blank[name] for name in fields):
                continue
            trials[index] = trials[index].model_copy(update=blank)
            yield current()
    report = report.model_copy(update={"error": report.error[:512] if report.error else None})
    yield current()
    report = report.model_copy(update={"task_facts": None, "model_facts": None})
    yield current()
    total = len(trials)
    while trials:
        trials.pop()
        text = f"{total - len(trials)} of {total} trials do not fit into the report: ask for fewer in one probe"
        yield current(error=text, reason="ReportTooLarge")
    yield current(error=None)
