"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orrery.cli import completion


class Output(StrEnum):
    """What is written to standard output; progress and errors go to standard error."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="PLAN",
        help="Files with the plan and its price list; one may hold several documents.",
        autocompletion=completion.plan_files,
    ),
]
Prices = Annotated[
    list[Path] | None,
    typer.Option(
        "--prices", metavar="FILE", help="A further file with the price list.", autocompletion=completion.plan_files
    ),
]
Claims = Annotated[list[str] | None, typer.Option("--pvc", metavar="CLAIM=DIR", help="Folder of a volume claim.")]
ConfigMaps = Annotated[
    list[str] | None, typer.Option("--configmap", metavar="NAME=DIR", help="Folder with the keys of a ConfigMap.")
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Form of standard output.")]
RootOption = Annotated[
    Path | None,
    typer.Option(
        "--root", metavar="DIR", help="Folder that paths of local sources start from; the current one by default."
    ),
]
StateOption = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="State folder; .orrery/NAMESPACE/NAME by default.")
]
