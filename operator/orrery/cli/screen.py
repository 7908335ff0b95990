"""Numbers, tables and documents as people and programs read them. Knows nothing of plans' files or probes."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from orrery.api import yamltext
from orrery.api.quantities import Interval
from orrery.api.status import Choice, Confirmation, CostForecast, PlanStatus, Spend
from orrery.cli.options import Output
from orrery.planning.reasons import amount, chance

#: Width of tables that go to a file or a pipe.
PLAIN_WIDTH = 180


def console(*, stderr: bool = False) -> Console:
    """Standard output or error; colours only on a terminal, and never with NO_COLOR (rich sees to that)."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PLAIN_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=False)


def write(document: Mapping[str, Any], output: Output, table: RenderableType) -> None:
    """The document for machines, or the table for people, to standard output."""
    if output is Output.JSON:
        print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
    elif output is Output.YAML:
        print(yamltext.write(dict(document)), end="")
    else:
        screen = console()
        with screen.capture() as captured:
            screen.print(table)
        print("\n".join(line.rstrip() for line in captured.get().splitlines()))  # tables pad to the full width


def figure(value: float, digits: int = 3) -> str:
    """A number with that many significant digits, without exponents or thousands of decimals.

    >>> figure(0.00012345), figure(1234.5), figure(12), figure(0)
    ('0.000123', '1,234', '12', '0')
    """
    if value == 0:
        return "0"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    from decimal import Decimal

    rounded = Decimal(f"{value:.{digits}g}")
    text = format(rounded, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def quality(predicted: float, lower: float, upper: float) -> str:
    """A forecast quality with its 90 % interval.

    >>> quality(0.91, 0.88, 0.937)
    '0.910 (0.880 to 0.937)'
    """
    return f"{predicted:.3f} ({lower:.3f} to {upper:.3f})"


def cost(interval: Interval | None) -> str:
    """Money with its 90 % interval."""
    if interval is None:
        return "-"
    return f"{amount(interval.median)} ({amount(interval.lower)} to {amount(interval.upper)})"


def name_of(choice: Choice) -> str:
    """Model and strategy."""
    return f"{choice.model} / {choice.strategy}"


def configuration(pairs: Iterable[tuple[str, str]]) -> str:
    """A configuration in one line; a dash for the one configuration that has no parameters."""
    return ", ".join(f"{name} {value}" for name, value in pairs) or "-"


def duration(seconds: float) -> str:
    """Minutes and seconds.

    >>> duration(75.2), duration(4000)
    ('1:15', '1:06:40')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def facts(pairs: Sequence[tuple[str, str]]) -> Table:
    """Names and their values, aligned."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, escape(value))
    return table


def listing(
    columns: Sequence[str], entries: Sequence[tuple[Sequence[str], str]], *, right: Sequence[str] = ()
) -> RenderableType:
    """A table whose rows may each have a sentence below, at full width: reasons are too long for a column.

    On a terminal that is too narrow, the columns that do not fit follow below each row by their names. The first three stay
    in it, if need be without their intervals, which go below too. Nothing is cut off.
    """
    return _Listing(tuple(columns), entries, frozenset(right))


#: Columns that stay on an entry's line however narrow the terminal is: name, quality and cost.
_LEADING = 3
_WITH_INTERVAL = re.compile(r"(\S+) \((.+)\)")


@dataclass(frozen=True)
class _Listing:
    columns: tuple[str, ...]
    entries: Sequence[tuple[Sequence[str], str]]
    right: frozenset[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        rows = [tuple(row) for row, _ in self.entries]
        wide = self._fitting(rows, options.max_width)
        lead = max(wide, min(_LEADING, len(self.columns)))
        split = [self._split(row, wide, lead) for row in rows]
        widths = [max(map(len, cells)) for cells in zip(self.columns, *(row for row, _ in split), strict=False)]
        yield Text(self._line(self.columns, widths), style="bold")
        for (row, below), (_, sentence) in zip(split, self.entries, strict=True):
            yield Text(self._line(row, widths))
            for text, style in (("  ".join(below), ""), (sentence, "dim")):
                if text:
                    yield Padding(Text(text, style=style), (0, 0, 0, 4))

    def _fitting(self, rows: Sequence[Sequence[str]], room: int) -> int:
        """How many of the first columns stand side by side in ``room`` as they are."""
        used = [max(map(len, cells)) + 2 for cells in zip(self.columns, *rows, strict=True)]
        return sum(total - 2 <= room for total in accumulate(used))

    def _split(self, row: Sequence[str], wide: int, lead: int) -> tuple[list[str], list[str]]:
        """What of a row stands on its line, and what below by its column's name."""
        line, below = list(row[:lead]), []
        for n in range(1, lead if wide < lead else 0):
            if found := _WITH_INTERVAL.fullmatch(line[n]):
                line[n] = found[1]
                below.append(f"{self.columns[n]} {found[2]}")
        rest = zip(self.columns[lead:], row[lead:], strict=True)
        return line, below + [f"{name} {cell}" for name, cell in rest if cell]

    def _line(self, row: Sequence[str], widths: Sequence[int]) -> str:
        cells = zip(self.columns, row, widths, strict=False)
        return "  ".join(c.rjust(w) if name in self.right else c.ljust(w) for name, c, w in cells).rstrip()


def section(title: str, body: RenderableType) -> Group:
    """A titled part of the output."""
    return Group("", f"[bold]{escape(title)}[/bold]", Padding(body, (0, 0, 0, 2)))


def answer(title: str, status: PlanStatus, horizon_days: int, budget: str, message: str) -> Group:
    """The answer of a plan: what is recommended, at what quality and cost, what it took, and why the rivals lost."""
    currency = status.spend.currency if status.spend else ""
    parts: list[RenderableType] = [f"[bold]{escape(title)}[/bold]  {status.phase}"]
    best = status.recommendation
    if best is not None:
        c, q = best.cost, best.quality
        basis = "measured in full" if best.measured else "forecast"
        sure = f", meets the objective with {chance(float(best.confidence))}"
        lines = [
            ("recommended", f"{name_of(best)} on {best.accelerator}"),
            ("configuration", configuration((p.name, p.value) for p in best.configuration)),
            ("quality", quality(float(q.predicted), float(q.lower), float(q.upper)) + f", {basis}{sure}"),
            (
                "cost",
                f"{amount(float(c.total))} {currency} ({amount(float(c.lower))} to {amount(float(c.upper))}): "
                f"{amount(float(c.adaptation))} to adapt, {amount(float(c.serving))} to serve {horizon_days} days",
            ),
            *compute(c, currency),
        ]
        if best.latency_milliseconds is not None:
            lines.append(("latency", f"{figure(float(best.latency_milliseconds))} ms a request"))
        lines.append(("why", best.message))
    else:
        lines = [("answer", message or "nothing can be recommended")]
    if status.confirmation is not None:
        lines.append(("confirmed", confirmation(status.confirmation, currency)))
    parts.append(Padding(facts(lines + spending(status, budget)), (1, 0, 0, 2)))
    if status.alternatives:
        parts.append(section("alternatives", alternatives(status)))
    return Group(*parts)


def compute(cost: CostForecast, currency: str) -> list[tuple[str, str]]:
    """What the money is for, since prices drift and work does not; and what a right answer costs."""
    lines = []
    if cost.accelerator_hours is not None:
        once, served = float(cost.adaptation_flops or 0), float(cost.serving_flops or 0)
        lines.append(
            (
                "compute",
                f"{figure(float(cost.accelerator_hours))} accelerator-hours, {operations(once + served)}: "
                f"{operations(once)} to adapt, {operations(served)} to serve",
            )
        )
    if cost.cost_of_pass is not None:
        lines.append(("cost of pass", f"{amount(float(cost.cost_of_pass))} {currency} per right answer"))
    return lines


def confirmation(found: Confirmation, currency: str) -> str:
    """Where the full run of the answer stands, and what it cost."""
    text = found.message
    if found.cost is not None and found.cost.actual is not None:
        seconds = float(found.cost.actual_accelerator_seconds or 0)
        text += (
            f"; it cost {amount(float(found.cost.actual))} {currency} and {figure(seconds)} s, "
            f"{amount(float(found.cost.predicted))} {currency} were predicted"
        )
    return text


def operations(value: float | None) -> str:
    """Floating-point operations, such as 1.2e+15 FLOPs.

    >>> operations(1.23e15), operations(0)
    ('1.2e+15 FLOPs', 'no FLOPs')
    """
    return f"{value:.1e} FLOPs" if value else "no FLOPs"


def spending(status: PlanStatus, budget: str) -> list[tuple[str, str]]:
    """What probing cost, in money and time, against the budget and the exhaustive search."""
    spend, done = status.spend, status.progress
    if spend is None:
        return []
    text = f"{amount(float(spend.cost))} {spend.currency} of {budget}, {figure(float(spend.accelerator_seconds))} s"
    if spend.flops:
        text += f", {operations(float(spend.flops))}"
    if spend.exhaustive_cost:
        text += f"; measuring every candidate in full: {exhaustive(spend)}"
        if spend.saved_percent is not None and spend.saved_percent > 0:
            text += f" ({float(spend.saved_percent):.1f} % saved)"
    lines = [("spent", text)]
    if done is not None:
        reused = f", {done.reused} reused" if done.reused else ""
        failed = f", {done.failed} failed" if done.failed else ""
        lines.append(("probes", f"{done.succeeded} succeeded{failed}{reused}"))
    return lines


def exhaustive(spend: Spend) -> str:
    """What measuring every candidate in full would cost, in money and work."""
    seconds, flops = spend.exhaustive_accelerator_seconds, spend.exhaustive_flops
    text = f"{amount(float(spend.exhaustive_cost or 0))} {spend.currency}"
    return text if seconds is None else f"{text}, {figure(float(seconds))} s, {operations(float(flops or 0))}"


def alternatives(status: PlanStatus) -> RenderableType:
    """The rivals, each with the reason it lost."""
    money = f"cost {status.spend.currency if status.spend else ''}".strip()
    entries = []
    for rival in status.alternatives:
        q, pairs = rival.quality, [(p.name, p.value) for p in rival.configuration]
        forecast = quality(float(q.predicted), float(q.lower), float(q.upper))
        work = work_cells(rival.cost.accelerator_hours, rival.cost.adaptation_flops, rival.cost.serving_flops)
        row = [name_of(rival), forecast, amount(float(rival.cost.total)), *work, configuration(pairs)]
        entries.append((row, rival.rejected_because))
    return listing(["model / strategy", "quality", money, *WORK, "configuration"], entries, right=[money, *WORK])


#: Columns beside money.
WORK = ["hours", "FLOPs"]


def work_cells(
    hours: Decimal | float | None, adaptation: Decimal | float | None, serving: Decimal | float | None
) -> list[str]:
    """Accelerator-hours, and FLOPs of adapting and serving together, as the columns ``WORK``."""
    flops = float(adaptation or 0) + float(serving or 0)
    return ["-" if hours is None else figure(float(hours)), f"{flops:.1e}" if flops else "-"]
