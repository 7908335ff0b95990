"""What ``orrery run`` shows while it runs, on standard error: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from decimal import Decimal

from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from orrery.cli.screen import configuration, duration
from orrery.local.attempts import parse_timestamp
from orrery.local.store import AttemptFolder
from orrery.planning.reasons import amount
from orrery.planning.types import ProbeRecord, ProbeRequest, Step


class Lines:
    """One line an event: for logs and pipes. Also the base of the live view, which prints the same lines above itself."""

    def __init__(self, console: Console, budget: Decimal, currency: str) -> None:
        self.console, self.budget, self.currency = console, budget, currency
        self.began = time.monotonic()
        self.spent = self.reserved = Decimal(0)
        self.running: dict[str, AttemptFolder] = {}
        self.what: dict[str, str] = {}
        self.leader = ""
        self.remaining: int | None = None

    def say(self, word: str, text: str) -> None:
        """One line: time since the start, what happened, to what."""
        clock = duration(time.monotonic() - self.began)
        self.console.print(f"[dim]{clock:>6}[/dim]  {word:<9} {escape(text)}", soft_wrap=True)

    def reused(self, trials: int) -> None:
        """Measurements of other plans were taken over."""
        self.say("reused", f"{trials} measurements that another plan has paid for")

    def started(self, request: ProbeRequest, attempt: AttemptFolder) -> None:
        """A probe was started."""
        self.running[attempt.probe] = attempt
        self.what[attempt.probe] = f"{request.spec.model.name}, {_trials(request)}"
        self.reserved += attempt.record.reserved
        again = f", attempt {request.attempt}" if request.attempt > 1 else ""
        self.say("started", f"{attempt.probe}{again}: {self.what[attempt.probe]}; {request.reason}")

    def adopted(self, attempt: AttemptFolder) -> None:
        """A probe of an earlier run is waited for."""
        self.running[attempt.probe] = attempt
        self.what.setdefault(attempt.probe, "")
        self.say("waiting", f"{attempt.probe}: started by an earlier run, still running")

    def ended(self, attempt: AttemptFolder) -> None:
        """A probe's cost and outcome are known."""
        self.running.pop(attempt.probe, None)
        record = attempt.record
        self.spent += record.cost
        said = f" ({record.message})" if record.message else ""
        self.say(
            "ended",
            f"{attempt.probe}: {record.reason}{said}, {float(record.seconds):.1f} s, {amount(float(record.cost))} "
            f"{self.currency}",
        )

    def step(self, step: Step, records: Sequence[ProbeRecord]) -> None:
        """Something was decided."""
        spend, best, progress = step.status.spend, step.status.recommendation, step.status.progress
        if spend is not None:
            self.spent, self.reserved = spend.cost, spend.reserved
        self.remaining = progress.estimated_remaining_seconds if progress else None
        if best is None:
            return
        pairs = configuration((p.name, p.value) for p in best.configuration)
        q = best.quality
        leader = (
            f"{best.model} / {best.strategy} ({pairs}): {float(q.predicted):.3f} "
            f"({float(q.lower):.3f} to {float(q.upper):.3f}) for {amount(float(best.cost.total))} {self.currency}"
        )
        if leader != self.leader:
            self.leader = leader
            if records:
                self.say("leading", f"{leader}; spent {amount(float(self.spent))} of {amount(float(self.budget))}")

    def waiting(self) -> None:
        """Called while probes run."""

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class Silent(Lines):
    """Says nothing."""

    def say(self, word: str, text: str) -> None:
        """Nothing."""


class View(Lines):
    """The lines, and below them what is running and how much of the budget is spent and reserved."""

    def __init__(self, console: Console, budget: Decimal, currency: str) -> None:
        super().__init__(console, budget, currency)
        self.live = Live(console=console, auto_refresh=False, transient=True)
        self.drawn = 0.0

    def waiting(self) -> None:
        """Draw the view, at most five times a second."""
        now = time.monotonic()
        if now - self.drawn >= 0.2:
            self.drawn = now
            self.live.update(self.picture(), refresh=True)

    def picture(self) -> RenderableType:
        """Spend against budget, and each running probe with its time against its deadline."""
        budget = float(self.budget) or 1.0
        table = Table.grid(padding=(0, 2))
        spent, held = float(self.spent), float(self.reserved)
        left = f", about {duration(self.remaining)} left" if self.remaining else ""
        table.add_row(
            "budget",
            Bar(budget, 0, spent, width=30, color="green"),
            f"{amount(spent)} spent, {amount(held)} reserved of {amount(budget)} {self.currency}{left}",
        )
        for name, attempt in self.running.items():
            deadline = float(attempt.record.deadline_seconds)
            ran = max(0.0, time.time() - parse_timestamp(attempt.record.started_at or "1970-01-01T00:00:00Z"))
            text = f"{duration(ran)} of at most {duration(deadline)}  {self.what.get(name, '')}"
            table.add_row(name, Bar(deadline, 0, min(ran, deadline), width=30, color="cyan"), escape(text))
        return Group("", table)

    def __enter__(self) -> View:
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.update("", refresh=True)
        self.live.stop()


def _trials(request: ProbeRequest) -> str:
    from collections import Counter

    counted = Counter(trial.strategy for trial in request.spec.trials)
    return ", ".join(f"{count} {strategy}" for strategy, count in sorted(counted.items()))
