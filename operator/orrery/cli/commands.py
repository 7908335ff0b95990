"""The commands' names, options and help. What they do is imported when they are called, so that help answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orrery.cli import completion
from orrery.cli.answers import Namespace, Where, in_cluster
from orrery.cli.options import Claims, ConfigMaps, Files, Output, OutputOption, Prices, StateOption


def validate(
    files: Files,
    prices: Prices = None,
    pvc: Claims = None,
    configmap: ConfigMaps = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check plans, price lists and data; measure nothing.

    Exit code 0 when all are valid, 2 when one is not.
    """
    from orrery.cli.validate import validate as command

    raise typer.Exit(command(files, prices or [], pvc or [], configmap or [], output))


def estimate(
    files: Files,
    prices: Prices = None,
    pvc: Claims = None,
    configmap: ConfigMaps = None,
    output: OutputOption = Output.TABLE,
    top: Annotated[int, typer.Option("--top", metavar="N", min=0, help="Candidates in the table; 0 for all.")] = 20,
) -> None:
    """What would be considered and probed, at what cost; measures nothing.

    Exit code 0 when the plan can be run, 1 when no candidate passes the gates, 2 for bad input.
    """
    from orrery.cli.estimate import estimate as command

    raise typer.Exit(command(files, prices or [], pvc or [], configmap or [], output, top))


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
            metavar="DIR",
            help="Take over measurements from the plans' states under this root; .orrery unless --state is given.",
        ),
    ] = None,
    memory_limit: Annotated[
        int | None,
        typer.Option("--memory-limit", metavar="MIB", min=64, help="Address space of a probe; not limited by default."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")] = False,
) -> None:
    """Answer a plan within its budget, with probes as processes on this machine.

    Interrupted or killed, run it again: it goes on, and pays for nothing twice. Ctrl-C ends the probes and keeps what
    they measured; a second Ctrl-C does not wait for them.

    Exit codes: 0 answered; 1 nothing meets the objective, or the budget ended first and onExceeded is Fail; 2 bad input;
    3 ended before an answer; 4 another run uses the state folder.
    """
    from orrery.cli.run import Options
    from orrery.cli.run import run as command

    options = Options(state=state, reuse=reuse, memory_limit_mebibytes=memory_limit, quiet=quiet)
    raise typer.Exit(command(files, prices or [], pvc or [], configmap or [], output, options))


def explain(
    context: typer.Context,
    where: Where,
    candidate: Annotated[
        str | None,
        typer.Argument(
            metavar="CANDIDATE",
            help="A candidate, or words of its name, such as 'lora rank=8'.",
            autocompletion=completion.candidates,
        ),
    ] = None,
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
    namespace: Namespace = None,
) -> None:
    """Why this candidate is recommended, why not that one, and what was measured.

    Exit code 0 when it is told, 2 when there is no answer or no such candidate.
    """
    from orrery.cli.explain import explain, explain_in_cluster

    if in_cluster(context, namespace):
        raise typer.Exit(explain_in_cluster(str(where), namespace, candidate, output))
    raise typer.Exit(explain(where, candidate, state, output))


def crds(
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Folder to write to; standard output by default.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 when the folder of --output is stale.")
    ] = False,
) -> None:
    """Write the CustomResourceDefinitions of the API."""
    from orrery.cli.crds import crds as command

    raise typer.Exit(command(output, check))
