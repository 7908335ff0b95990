"""``orrery crds`` on the command line; what it does is in ``crds``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def crds(
    output: Annotated[Path | None, typer.Option(help="Folder to write to; standard output by default.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 if the folder is stale.")] = False,
) -> None:
    """Write the CustomResourceDefinitions of the API."""
    from orrery.cli.crds import crds as write

    raise typer.Exit(write(output, check))
