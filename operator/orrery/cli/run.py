"""``orrery run``: answer a plan on this machine."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orrery.api.quantities import format_decimal
from orrery.cli.failures import Exit
from orrery.cli.options import Output
from orrery.cli.prices import notes
from orrery.cli.progress import Lines, Silent, View
from orrery.cli.reading import STATE_ROOT, known, read_question, state_folder
from orrery.cli.screen import answer, console, write
from orrery.local.engine import Answer, Settings, Stop
from orrery.local.engine import run as answer_plan
from orrery.local.publish import read_status
from orrery.local.volumes import link
from orrery.planning.advance import advance
from orrery.planning.reasons import amount


@dataclass(frozen=True)
class Options:
    """How this machine is to run probes, as the command line says."""

    state: Path | None = None
    reuse: Path | None = None
    memory_limit_mebibytes: int | None = None
    quiet: bool = False


def run(
    files: Sequence[Path],
    prices: Sequence[Path],
    claims: Sequence[str],
    maps: Sequence[str],
    output: Output,
    options: Options,
) -> Exit:
    """The command: the engine, with signals, a screen and an exit code."""
    question = read_question(files, prices, claims, maps)
    plan, budget = question.plan, question.plan.spec.budget.max_probe_cost
    facts = known(question)
    folder = state_folder(plan, options.state)
    settings = Settings(
        state=folder,
        command=probe_command,
        reuse=options.reuse or (STATE_ROOT if options.state is None else None),
        environment={**os.environ, **link(folder / "volumes", question.roots)},
        memory_bytes=limit * 2**20 if (limit := options.memory_limit_mebibytes) is not None else None,
    )
    screen = console(stderr=True)
    for note in () if options.quiet else notes(plan, question.prices, question.budgets):
        screen.print(f"note: {note}", style="dim", markup=False, soft_wrap=True)
    stop = Stop()
    kind = Silent if options.quiet else View if screen.is_terminal else Lines
    view = kind(screen, budget, question.prices.spec.currency)
    _listen(stop, lambda: view.say("ending", "telling the probes to report what they have; once more to end at once"))
    with view:
        result = answer_plan(plan, question.prices, facts, settings, advance, view, stop)
    status = read_status(settings.state) or result.step.status
    shown = answer(
        f"{plan.metadata.namespace}/{plan.metadata.name}",
        status,
        plan.spec.workload.horizon_days,
        f"{amount(float(budget))} {question.prices.spec.currency}",
        result.step.message,
    )
    document = plan.model_copy(update={"status": status}).to_wire()
    write(document, output, shown)
    if result.out_of_time:
        limit = plan.spec.active_deadline_seconds
        screen.print(f"spec.activeDeadlineSeconds ({limit}) is over: answered from what was measured", markup=False)
    code = exit_code(result)
    if code is not Exit.OK:
        why = "interrupted; run again to go on" if result.interrupted else result.step.message
        screen.print(f"{result.step.reason}: {why} (budget {format_decimal(budget)})", markup=False)
    screen.print(f"every candidate: {settings.state / 'results.jsonl'}", style="dim", markup=False)
    return code


def exit_code(result: Answer) -> Exit:
    """What CI branches on."""
    status = result.step.status
    if result.interrupted or status.phase == "Suspended":
        return Exit.UNFINISHED
    if status.phase == "Stalled":
        return Exit.BAD_INPUT
    if status.phase in ("Infeasible", "Failed") or status.recommendation is None:
        return Exit.NEGATIVE
    return Exit.OK


def probe_command(spec: Path, report: Path) -> list[str]:
    """The command line of a probe: this very interpreter, whatever the working directory holds."""
    return [sys.executable, "-P", "-m", "orrery", "probe", str(spec), "--report", str(report)]


def _listen(stop: Stop, announce: Callable[[], None]) -> None:
    def on_signal(*_: object) -> None:
        stop.ask()
        if stop.asked == 1:
            announce()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, on_signal)
