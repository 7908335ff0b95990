"""``orrery train``: train one configuration and keep it; what rendered Jobs run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from orrery.cli.options import RootOption
from orrery.cli.probe import read_spec


def train(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Empty folder to write to.")],
    spec: Annotated[
        str | None,
        typer.Argument(
            metavar="SPEC",
            help="File with an AdaptationProbe of one trial, - for standard input; $ORRERY_PROBE_SPEC by default.",
        ),
    ] = None,
    root: RootOption = None,
) -> None:
    """Train one configuration in full, score it, and write adapters, model or prompt to a folder.

    Exit code 0 when it is written, 1 when training failed, 2 when the spec is bad.
    """
    parsed = read_spec(spec)
    from orrery.probes.locations import SourceRoots
    from orrery.probes.saving import TrainingError
    from orrery.probes.saving import train as command

    try:
        told = command(parsed, output, SourceRoots.from_environment(root))
    except TrainingError as error:
        print(f"error: {error.reason}: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    sys.stdout.write(json.dumps({"output": str(output), "kind": told["kind"], **told["measured"]}) + "\n")
