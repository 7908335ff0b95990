"""The answer that a command is asked about: of a state folder, of a plan's file, or of a plan in a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orrery.cli import completion

if TYPE_CHECKING:
    from orrery.cli.cluster_report import Answered

Where = Annotated[
    Path,
    typer.Argument(
        metavar="STATE|PLAN",
        help="A state folder, or the plan's file. In a cluster, a plan's name.",
        autocompletion=completion.plans,
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", metavar="NAMESPACE", help="A plan of this namespace of the cluster that KUBECONFIG names."
    ),
]


def in_cluster(context: typer.Context, namespace: str | None) -> bool:
    """Whether a plan of a cluster is meant: a namespace is named, or kubectl asks."""
    return namespace is not None or bool((context.find_root().obj or {}).get("cluster", False))


def folder_of(where: Path, state: Path | None) -> Path:
    """The state folder that is meant."""
    from orrery.api.load import load
    from orrery.cli.reading import state_folder

    return where if where.is_dir() else state_folder(load([where]).plan(), state)


def of_state(where: Path, state: Path | None) -> Answered:
    """The answer of a state folder with all it rests on, best candidate first; raises StateError when there is none yet."""
    from orrery.api.load import load
    from orrery.local.files import StateError
    from orrery.local.publish import PLAN, PRICES, ordered, read_rows, read_status
    from orrery.local.store import Store

    folder = folder_of(where, state)
    status = read_status(folder)
    if status is None or not (folder / PLAN).exists() or not (folder / PRICES).exists():
        raise StateError(f"{folder} holds no answer yet: `orrery run` the plan first, or see `orrery estimate`")
    kept = load([folder / PLAN, folder / PRICES])
    if not kept.plans or not kept.price_lists:
        raise StateError(
            f"{folder} has lost its plan or its prices: `orrery run` the plan again, which writes them anew"
        )
    plan, digest = kept.plan(), status.inputs.data_digest if status.inputs is not None else None
    return plan, kept.price_lists[0], status, ordered(read_rows(folder)), Store(folder, digest).records()


def of_cluster(name: str, namespace: str | None) -> Answered:
    """The same of a plan in the cluster that KUBECONFIG names; without ``namespace`` in that of its context.

    Raises StateError when there is none, or it cannot be read.
    """
    from orrery.cli.failures import without_extra
    from orrery.local.files import StateError

    try:
        from orrery.cli.cluster_report import NoReport, read
        from orrery.controller.overview import current_namespace
        from orrery.controller.server import Server, ServerError
    except ImportError as error:
        raise StateError(without_extra(error)) from None
    try:
        return read(Server.connect(2), namespace or current_namespace(), name)
    except (NoReport, ServerError) as problem:
        raise StateError(str(problem)) from None
