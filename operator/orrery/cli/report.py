"""``orrery report``: the answer of a state folder as one page."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from orrery.cli.completion import plans


def report(
    context: typer.Context,
    where: Annotated[
        Path,
        typer.Argument(
            metavar="STATE|PLAN",
            help="A state folder, or the plan's file. In a cluster, a plan's name.",
            autocompletion=plans,
        ),
    ],
    state: Annotated[
        Path | None, typer.Option("--state", metavar="DIR", help="State folder; .orrery/NAMESPACE/NAME by default.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the page; - for standard output.")
    ] = Path("report.html"),
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="A plan of this namespace of the cluster that KUBECONFIG names."),
    ] = None,
) -> None:
    """Write the answer as one HTML page that can be read offline: frontier, curves, costs, candidates and inputs.

    Exit code 0 when the page is written, 2 when the folder holds no answer.
    """
    if namespace is not None or (context.find_root().obj or {}).get("cluster", False):
        page = _page_of_cluster(str(where), namespace)
    else:
        page = page_of(where, state)
    if output == Path("-"):
        sys.stdout.write(page)
        return
    output.write_text(page, encoding="utf-8")
    print(f"wrote {output}, {len(page.encode()) / 1e6:.2f} MB", file=sys.stderr)


def _page_of_cluster(name: str, namespace: str | None) -> str:
    from orrery.cli.failures import Exit, without_extra

    try:
        from orrery.cli.cluster_report import NoReport, of_cluster
        from orrery.controller.overview import current_namespace
        from orrery.controller.server import Server, ServerError
    except ImportError as error:
        print(f"error: {without_extra(error)}", file=sys.stderr)
        raise typer.Exit(Exit.BAD_INPUT) from None
    try:
        return of_cluster(Server.connect(2), namespace or current_namespace(), name)
    except (NoReport, ServerError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        raise typer.Exit(Exit.BAD_INPUT) from None


def page_of(where: Path, state: Path | None) -> str:
    """The page of a state folder, or of a plan's; raises StateError when there is no answer yet."""
    from orrery.api.load import load
    from orrery.cli.reading import state_folder
    from orrery.local.files import StateError
    from orrery.local.publish import PLAN, PRICES, ordered, read_rows, read_status
    from orrery.local.store import Store
    from orrery.report.page import render

    folder = where if where.is_dir() else state_folder(load([where]).plan(), state)
    status = read_status(folder)
    if status is None or not (folder / PLAN).exists() or not (folder / PRICES).exists():
        raise StateError(f"{folder} holds no answer yet: `orrery run` the plan first")
    kept = load([folder / PLAN, folder / PRICES])
    plan = kept.plan()
    digest = status.inputs.data_digest if status.inputs is not None else None
    records = Store(folder, digest).records()
    return render(plan, kept.prices(plan), status, ordered(read_rows(folder)), records, datetime.now(UTC).date())
