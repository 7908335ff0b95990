"""What an attempt at a probe cost and how it ended. Pure: what was found in, the settled record out."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Literal

from orrery.api.base import CamelWord, PositiveCount, StatusModel, Text
from orrery.api.quantities import Money, Number
from orrery.planning.reports import FINAL_REASONS, Judgement


class AttemptRecord(StatusModel):
    """One attempt as ``record.json`` keeps it. Written before the process starts, with the price of that day."""

    number: PositiveCount
    phase: Literal["Reserved", "Succeeded", "Failed", "Void"]
    reserved: Money  #: the worst case, held until the attempt has ended
    price_per_hour: Money  #: of all its accelerators together
    accelerators: PositiveCount
    deadline_seconds: PositiveCount
    cost: Money = Decimal(0)
    seconds: Number = Decimal(0)  #: accelerator-seconds
    started_at: str | None = None
    finished_at: str | None = None
    reason: CamelWord | None = None
    message: Text = ""
    counted: bool = True  #: whether it uses up one of the allowed attempts
    peak_memory_bytes: int | None = None

    @property
    def ended(self) -> bool:
        """Whether its cost is final."""
        return self.phase != "Reserved"

    @property
    def retryable(self) -> bool:
        """Whether the same attempt may go better next time."""
        return self.phase != "Succeeded" and self.reason not in FINAL_REASONS


@dataclass(frozen=True)
class Ending:
    """What is found of an attempt whose shepherd no longer runs: all None when the process never began."""

    started_at: float | None = None  #: seconds since the epoch
    code: int | None = None
    cause: str | None = None  #: Exited, Terminated, DeadlineExceeded, NotExecutable; None when nobody saw the end
    seconds: float | None = None
    finished_at: float | None = None
    peak_memory_bytes: int | None = None


def cost_of(price_per_hour: Decimal, seconds: float, reserved: Decimal) -> Decimal:
    """Money for the seconds a process ran, rounded up to a millionth and never more than was set aside for it.

    The shepherd ends the process within its deadline, so the bound only takes off the milliseconds of seeing the end.

    >>> cost_of(Decimal("3.6"), 10.0, Decimal(1)), cost_of(Decimal("3.6"), 0.0001, Decimal(1))
    (Decimal('0.010000'), Decimal('0.000001'))
    """
    exact = price_per_hour * Decimal(repr(seconds)) / 3600
    return min(exact.quantize(Decimal("0.000001"), rounding=ROUND_CEILING), reserved)


def elapsed(ending: Ending, deadline_seconds: int, now: float) -> float:
    """Wall-clock seconds to charge.

    Known exactly when the shepherd saw the end. When the machine went down with it, nobody knows: the time until now is
    charged, which is never too little, up to the deadline, which was reserved; and the whole deadline when the clock was
    set back in between.
    """
    if ending.seconds is not None:
        return min(ending.seconds, float(deadline_seconds))
    if ending.started_at is None:
        return 0.0
    passed = now - ending.started_at
    return min(passed, float(deadline_seconds)) if passed > 0 else float(deadline_seconds)


def settle(record: AttemptRecord, ending: Ending, judgement: Judgement, now: float) -> AttemptRecord:
    """Close the record of an attempt that is over. Total: any ending and any report have a phase, a reason and a cost."""
    if ending.started_at is None:
        return record.model_copy(
            update={
                "phase": "Void",
                "counted": False,
                "reason": "NotStarted",
                "message": "orrery ended before the process began; nothing ran and nothing is charged",
            }
        )
    wall = elapsed(ending, record.deadline_seconds, now)
    reason, message = _verdict(record, ending, judgement)
    succeeded = reason == "Completed"
    return record.model_copy(
        update={
            "phase": "Succeeded" if succeeded else "Failed",
            "reason": reason,
            "message": message[:1024],
            "counted": ending.cause != "Terminated",  # being interrupted is not the probe's failure
            "cost": cost_of(record.price_per_hour, wall, record.reserved),
            "seconds": Decimal(repr(round(wall * record.accelerators, 3))),
            "started_at": timestamp(ending.started_at),
            "finished_at": timestamp(ending.finished_at if ending.finished_at is not None else now),
            "peak_memory_bytes": ending.peak_memory_bytes,
        }
    )


def _verdict(record: AttemptRecord, ending: Ending, judgement: Judgement) -> tuple[str, str]:
    if judgement.told is not None:
        return judgement.told
    report, kept = judgement.report, judgement.kept
    if ending.cause is None:
        return "Lost", f"the machine or the attempt's shepherd went down while it ran; charged up to now{kept}"
    if ending.cause == "DeadlineExceeded":
        return "DeadlineExceeded", f"ended at its deadline of {record.deadline_seconds} s{kept}"
    if ending.cause == "Terminated":
        return "Interrupted", f"ended early: by a person, or because the plan's time was over or it was edited{kept}"
    if ending.cause == "NotExecutable":
        return "NotExecutable", "the probe command does not start; the log names it"
    if ending.code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return "OutOfMemory", f"killed by the system, as it does when memory runs out{kept}"
    if judgement.reason not in ("", "ReportMissing"):
        return judgement.reason, judgement.message
    if ending.code:
        how = f"was ended by signal {-ending.code}" if ending.code < 0 else f"ended with exit code {ending.code}"
        return "Crashed", f"the probe {how}; its log says why{kept}"
    if report is not None:
        return (
            "ReportIncomplete",
            f"the probe ended with a report of {len(report.trials)} trials and called it unfinished",
        )
    return judgement.reason, judgement.message


def probing_seconds(records: Iterable[AttemptRecord], now: float) -> float:
    """How long a plan has been probing: the time in which at least one attempt ran, interruptions left out."""
    spans = sorted(
        (parse_timestamp(r.started_at), parse_timestamp(r.finished_at) if r.finished_at else now)
        for r in records
        if r.started_at
    )
    total, reached = 0.0, float("-inf")
    for begin, end in spans:
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def timestamp(seconds: float) -> str:
    """As Kubernetes writes a time, in UTC, with milliseconds.

    >>> timestamp(0.5)
    '1970-01-01T00:00:00.500Z'
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_timestamp(text: str) -> float:
    """Seconds since the epoch.

    >>> parse_timestamp(timestamp(12.25))
    12.25
    """
    return datetime.fromisoformat(text).timestamp()
