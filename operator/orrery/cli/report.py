"""``orrery report``: the answer of a state folder, or of a plan in a cluster, as one page."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from orrery.cli.answers import Namespace, Where, in_cluster, of_cluster, of_state
from orrery.cli.options import StateOption


def report(
    context: typer.Context,
    where: Where,
    state: StateOption = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the page; - for standard output.")
    ] = Path("report.html"),
    namespace: Namespace = None,
) -> None:
    """Write the answer as one HTML page that can be read offline: frontier, curves, costs, candidates and inputs.

    Exit code 0 when the page is written, 2 when there is no answer.
    """
    from orrery.report.page import render

    answered = of_cluster(str(where), namespace) if in_cluster(context, namespace) else of_state(where, state)
    page = render(*answered, datetime.now(UTC).date())
    if output == Path("-"):
        sys.stdout.write(page)
        return
    output.write_text(page, encoding="utf-8")
    print(f"wrote {output}, {len(page.encode()) / 1e6:.2f} MB", file=sys.stderr)
