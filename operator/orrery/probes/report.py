"""A probe's report: numbers that repeat exactly, packed bits, at most 4,096 bytes, on disk at every step."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from orrery.api.probe import REPORT_LIMIT, Report
from orrery.api.quantities import format_decimal


def number(value: float) -> Decimal:
    """Six significant digits, at most twelve decimals; more would be noise and would not fit 4,096 bytes.

    Raises ``FloatingPointError`` for what is not finite or beyond 10^29, which the frame records as ``Diverged``.

    >>> number(1 / 3), number(123456789.0)
    (Decimal('0.333333'), Decimal('123457000'))
    """
    if not math.isfinite(value) or abs(value) >= 1e29:
        raise FloatingPointError(f"a measured number is {value}")
    short = Decimal(format(value, ".6g"))
    return Decimal(format_decimal(short if short.adjusted() >= 0 else round(short, 12)))


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
    messages, their bits (the longest first), peak memory, how answers' lengths are spread, tokens and FLOPs, seconds and tokens a request, standard
    errors, why the sizes are uncertain, the facts of the task and of the model, at last whole trials from the end, and ``error`` says how many.
    """
    wire = report.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    trials = wire.pop("trials", [])
    envelope = {"version": report.version, **wire}
    sizes = [len(_json(trial)) + 1 for trial in trials]

    def excess() -> int:
        return len(_json({**envelope, "trials": []})) + sum(sizes) - REPORT_LIMIT

    over = excess()
    for fields in _OPTIONAL:
        if over <= 0:
            break
        order = sorted(range(len(trials)), key=lambda i: (-len(trials[i].get("bits", "")), -i))
        for i in order:
            if over <= 0:
                break
            if fields == ("trainLoss",) and "score" not in trials[i]:
                continue  # of a training that was stopped early, it is the answer
            trials[i] = {key: value for key, value in trials[i].items() if key not in fields}
            smaller = len(_json(trials[i])) + 1
            over -= sizes[i] - smaller
            sizes[i] = smaller
    for facts in ("modelProblem", "taskFacts", "modelFacts", "architecture"):
        if over > 0:
            envelope.pop(facts, None)
            over = excess()
    if over > 0 and len(envelope.get("error", "")) > 200:
        envelope["error"] = envelope["error"][:199] + "…"
        over = excess()
    asked = len(trials)
    while over > 0 and trials:
        trials.pop()
        sizes.pop()
        left = f"{asked - len(trials)} of {asked} trials do not fit into the report: ask for fewer in one probe"
        envelope.update(error=left, reason="ReportTooLarge")
        over = excess()
    return _json({**envelope, "trials": trials})


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


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


_OPTIONAL: tuple[tuple[str, ...], ...] = (
    ("trainLoss",),
    ("message",),
    ("bits",),
    ("peakMemoryBytes",),
    ("outputTokenQuantiles", "outputTokensError"),
    ("trainTokens", "evaluationTokens", "trainFlops", "evaluationFlops"),
    ("trainSeconds", "evaluationSeconds", "requestTokens", "outputTokens"),
    ("standardError",),
)
