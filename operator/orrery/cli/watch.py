"""``orrery watch``: plans, probes, spend against budget and time left, as they change; on a terminal or as JSON lines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from orrery.cli.completion import plans
from orrery.cli.failures import Exit, without_extra

if TYPE_CHECKING:
    from rich.console import RenderableType

    from orrery.cli.snapshot import Snapshot

#: Seconds between looks: a folder is read in milliseconds, a cluster is somebody else's.
LOCAL_PAUSE, CLUSTER_PAUSE = 0.5, 2.0


def watch(
    context: typer.Context,
    where: Annotated[
        str | None,
        typer.Argument(
            metavar="STATE|PLAN",
            help="A state folder, a folder of them, or a plan's file; .orrery by default. In a cluster, a plan's name.",
            autocompletion=plans,
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace", "-n", metavar="NAMESPACE", help="Watch this namespace of the cluster that KUBECONFIG names."
        ),
    ] = None,
    everywhere: Annotated[bool, typer.Option("--all", "-A", help="Watch all namespaces of the cluster.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Show how things stand and end.")] = False,
    output: Annotated[
        Literal["table", "json"] | None,
        typer.Option("--output", "-o", help="table on a terminal, json (one line a change) elsewhere, unless given."),
    ] = None,
) -> None:
    """Plans, their probes, spend against budget and time left, as they change.

    Ends when every plan that is watched is settled; Ctrl-C ends it before. Measures nothing and writes nothing.

    Exit codes as of run: 0 answered (or ended by Ctrl-C, or --once), 1 nothing meets the objective, 2 bad input or a
    stalled plan, 3 suspended.
    """
    in_cluster = namespace is not None or everywhere or (context.find_root().obj or {}).get("cluster", False)
    if in_cluster:
        look, pause = _cluster(where, namespace, everywhere), CLUSTER_PAUSE
    else:
        look, pause = _local(where), LOCAL_PAUSE
    as_table = output == "table" or (output is None and sys.stdout.isatty())
    try:
        found = (_on_screen if as_table else _as_lines)(look, pause, once)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.OK) from None
    raise typer.Exit(Exit.OK if once else exit_code(found))


def exit_code(found: Sequence[Snapshot]) -> Exit:
    """The worst that any plan came to."""
    codes = {"Answered": Exit.OK, "Stalled": Exit.BAD_INPUT, "Suspended": Exit.UNFINISHED}
    return max((codes.get(one.status.phase, Exit.NEGATIVE) for one in found), default=Exit.OK)


# ---- where plans are


def _local(where: str | None) -> Callable[[], list[Snapshot]]:
    from orrery.cli.reading import STATE_ROOT, state_folder
    from orrery.cli.snapshot import folders, of_folder

    root = Path(where) if where else STATE_ROOT
    if root.is_file():
        from orrery.api.load import load

        root = state_folder(load([root]).plan(), None)
    folders(root)  # says at once when there is nothing
    return lambda: [of_folder(folder) for folder in folders(root)]


def _cluster(name: str | None, namespace: str | None, everywhere: bool) -> Callable[[], list[Snapshot]]:
    from orrery.cli.snapshot import of_objects

    try:
        from orrery.controller.overview import Overview, current_namespace
        from orrery.controller.server import ServerError
    except ImportError as error:
        _refuse(without_extra(error))
    if everywhere and (name or namespace):
        _refuse("--all watches every plan of every namespace: leave it out, or the name and --namespace")
    try:
        cluster = Overview()
    except ServerError as error:
        _refuse(str(error))
    space = None if everywhere else namespace or current_namespace()
    seen: list[Snapshot] = []
    begun = False

    def look() -> list[Snapshot]:
        nonlocal seen, begun
        try:
            seen = list(of_objects(*cluster.read(space, name)))
            begun = True
        except ServerError as error:
            if not begun or error.status in (401, 403, 404):
                _refuse(str(error))
            print(f"the API server cannot be asked now: {error}", file=sys.stderr, flush=True)
        return seen

    return look


def _refuse(sentence: str) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    raise typer.Exit(Exit.BAD_INPUT)


# ---- what is shown


def _looks(look: Callable[[], list[Snapshot]], pause: float, once: bool) -> Iterator[list[Snapshot]]:
    """How things stand, again and again until they are settled.

    A look that takes long is taken less often: a watcher must not be what keeps the API server busy.
    """
    while True:
        began = time.monotonic()
        found = look()
        took = time.monotonic() - began
        yield found
        if once or _over(found):
            return
        time.sleep(max(pause, 5 * took))


def _as_lines(look: Callable[[], list[Snapshot]], pause: float, once: bool) -> list[Snapshot]:
    told: dict[tuple[str, str], str] = {}
    found: list[Snapshot] = []
    for found in _looks(look, pause, once):
        for one in found:
            line = json.dumps(one.document(), ensure_ascii=False, allow_nan=False)
            if told.get((one.namespace, one.name)) != line:
                told[one.namespace, one.name] = line
                print(line, flush=True)
    return found


def _on_screen(look: Callable[[], list[Snapshot]], pause: float, once: bool) -> list[Snapshot]:
    from rich.live import Live

    from orrery.cli.screen import console

    screen = console()
    found: list[Snapshot] = []
    if once or not screen.is_terminal or screen.is_dumb_terminal:  # nothing can be drawn over
        told: list[dict[str, Any]] | None = None
        for found in _looks(look, pause, once):
            if (documents := [one.document() for one in found]) != told:
                told = documents
                screen.print(picture(found))
        return found
    with Live(console=screen, auto_refresh=False) as live:
        for found in _looks(look, pause, once):
            live.update(picture(found), refresh=True)
    return found


def _over(found: Sequence[Snapshot]) -> bool:
    return bool(found) and all(one.settled for one in found)


def picture(found: Sequence[Snapshot]) -> RenderableType:
    """The plans that move first, each with its money and its open probes."""
    from rich.console import Group
    from rich.text import Text

    if not found:
        return Text("no plans", style="dim")
    ordered = sorted(found, key=lambda one: (one.settled, one.namespace, one.name))
    parts: list[RenderableType] = []
    for one in ordered:
        parts += _plan(one)
    moving = sum(not one.settled for one in found)
    parts.append(Text(f"{len(found)} plans, {moving} not settled" if len(found) > 1 else "", style="dim"))
    return Group(*parts)


def _plan(one: Snapshot) -> list[RenderableType]:
    from rich.bar import Bar
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from orrery.cli.screen import duration, name_of
    from orrery.planning.reasons import amount

    status, spend, progress = one.status, one.status.spend, one.status.progress
    colour = {"Answered": "green", "Probing": "cyan", "Pending": "cyan"}.get(status.phase, "yellow")
    head = Text.assemble((f"{one.namespace}/{one.name}", "bold"), "  ", (status.phase, colour))
    if (best := status.recommendation) is not None:
        q, c = best.quality, best.cost
        head.append(
            f"  {name_of(best)}: {float(q.predicted):.3f} ({float(q.lower):.3f} to {float(q.upper):.3f})"
            f" for {amount(float(c.total))} {one.currency}"
        )
    grid = Table.grid(padding=(0, 2))
    if spend is not None and one.budget:
        limit, spent, held = float(one.budget), float(spend.cost), float(spend.reserved)
        left = progress.estimated_remaining_seconds if progress and not one.settled else None
        text = f"{amount(spent)} spent, {amount(held)} reserved of {amount(limit)} {one.currency}"
        if left:
            text += f", about {duration(left)} left"
        grid.add_row("budget", Bar(limit or 1.0, 0, min(spent, limit), width=20, color="green"), Text(text))
    for probe in one.probes:
        ran, most = probe.ran(), probe.deadline_seconds
        state = f"{duration(ran)} of at most {duration(most)}" if probe.state == "running" else probe.state
        told = f"; {probe.message}" if probe.message else ""
        bar = Bar(most, 0, min(ran, most), width=20, color="cyan")
        grid.add_row(probe.name, bar, Text(f"{state}  {probe.model}, {probe.what}{told}"))
    if progress is not None:
        counts = {"succeeded": progress.succeeded, "failed": progress.failed, "reused": progress.reused}
        said = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        if said:
            grid.add_row("probes", "", Text(said))
    reason, message = one.message
    parts: list[RenderableType] = [head, Padding(grid, (0, 0, 0, 2))]
    if message:
        parts.append(Padding(Text(f"{reason}: {message}", style="dim"), (0, 0, 1, 2)))
    return parts
