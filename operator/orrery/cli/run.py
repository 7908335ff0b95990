"""``orrery run``: answer a plan on this machine."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from orrery.api.quantities import format_decimal
from orrery.cli.failures import Exit
from orrery.cli.progress import Lines, View
from orrery.cli.reading import (
    STATE_ROOT,
    Claims,
    ConfigMaps,
    Files,
    Output,
    OutputOption,
    Prices,
    StateOption,
    read_question,
    state_folder,
)
from orrery.cli.screen import answer, console, write
from orrery.local.engine import Answer, Settings, Stop
from orrery.local.engine import run as answer_plan
from orrery.local.facts import read_facts
from orrery.local.publish import read_status
from orrery.local.volumes import link
from orrery.planning.advance import advance
from orrery.planning.reasons import amount


def run(
    files: Files,
    prices: Prices = None,
    state: StateOption = None,
    pvc: Claims = None,
    configmap: ConfigMaps = None,
    output: OutputOption = Output.TABLE,
    reuse: Annotated[
        Path | None,
        typer.Option(
            help="Take over measurements from the plans' states under this root; .orrery unless --state is given."
        ),
    ] = None,
    memory_limit: Annotated[
        int | None, typer.Option("--memory-limit", metavar="MIB", min=64, help="Address space of a probe; unlimited.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")] = False,
) -> None:
    """Answer a plan within its budget, with probes as processes on this machine.

    Interrupted or killed, run it again: it goes on, and pays for nothing twice. Ctrl-C ends the probes and keeps what
    they measured; a second Ctrl-C does not wait for them.

    Exit codes: 0 answered; 1 nothing meets the objective, or the budget ended first and onExceeded is Fail; 2 bad input;
    3 ended before an answer; 4 another run uses the state folder.
    """
    question = read_question(files, prices, pvc, configmap)
    plan, budget = question.plan, question.plan.spec.budget.max_probe_cost
    facts = read_facts(plan, question.roots)
    folder = state_folder(plan, state)
    settings = Settings(
        state=folder,
        command=probe_command,
        reuse=reuse or (STATE_ROOT if state is None else None),
        environment={**os.environ, **link(folder / "volumes", question.roots)},
        memory_bytes=memory_limit * 2**20 if memory_limit is not None else None,
    )
    screen = console(stderr=True)
    stop = Stop()
    view: Lines = (View if screen.is_terminal and not quiet else Lines)(screen, budget, question.prices.spec.currency)
    if quiet:
        view.say = lambda word, text: None  # type: ignore[method-assign]
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
    code = exit_code(result)
    if code is not Exit.OK:
        why = "interrupted; run again to go on" if result.interrupted else result.step.message
        screen.print(f"{result.step.reason}: {why} (budget {format_decimal(budget)})", markup=False)
    screen.print(f"every candidate: {settings.state / 'results.jsonl'}", style="dim", markup=False)
    raise typer.Exit(code)


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
        signal.signal(number, on_signal)
