"""What the shell offers when a word is completed. Imports nothing heavy: a person waits for it at every press of Tab."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

#: Kept here too, as importing where they belong takes longer than a person waits.
_ROOT, _PLAN, _RESULTS = Path(".orrery"), "plan.yaml", "results.jsonl"


def plan_files(incomplete: str) -> list[str]:
    """YAML files, and folders on the way to them."""
    folder, _, begun = incomplete.rpartition("/")
    try:
        found = sorted(Path(folder or ("/" if incomplete.startswith("/") else ".")).iterdir())
    except OSError:
        return []
    prefix = f"{folder}/" if "/" in incomplete else ""
    names = [
        prefix + path.name + ("/" if path.is_dir() else "")
        for path in found
        if path.name.startswith(begun) and (path.is_dir() or path.suffix in (".yaml", ".yml"))
    ]
    return [name for name in names if begun or not name.removeprefix(prefix).startswith(".")]


def states(incomplete: str) -> list[str]:
    """State folders below ``.orrery``, then plans' files."""
    found = sorted(str(path.parent) for path in _ROOT.glob(f"*/*/{_PLAN}"))
    found = [name for name in found if name.startswith(incomplete)]
    return found if found and incomplete else found + plan_files(incomplete)


def candidates(ctx: Any, incomplete: str) -> list[str]:
    """Models, strategies and parameters of the candidates in the state folder that was named before."""
    words: dict[str, None] = {}
    for line in _results(str(ctx.params.get("where") or "")):
        row = json.loads(line)
        words |= dict.fromkeys((row["model"], row["strategy"]))
        words |= {f"{name}={value}": None for name, value in row["configuration"]}
    return [word for word in words if word.startswith(incomplete)]


def plans(ctx: Any, incomplete: str) -> list[str]:
    """State folders and plans' files; with --namespace, or as kubectl's plugin, the names of the cluster's plans."""
    namespace = ctx.params.get("namespace")
    if namespace is None and not (ctx.find_root().obj or {}).get("cluster"):
        return states(incomplete)
    try:
        from orrery.controller.overview import Overview, current_namespace

        found, _ = Overview().read(namespace or current_namespace())
    except Exception:  # no cluster, no rights, no client: a completion has nobody to tell
        return []
    return [name for plan in found if (name := str(plan["metadata"]["name"])).startswith(incomplete)]


def _results(where: str) -> list[str]:
    folder = Path(where)
    if folder.is_file():  # a plan: its state is where `orrery run` puts it
        text = folder.read_text(encoding="utf-8")
        named = re.search(r"^metadata:.*?^\s+name: *[\"']?([a-z0-9.-]+)", text, re.MULTILINE | re.DOTALL)
        space = re.search(r"^\s+namespace: *[\"']?([a-z0-9.-]+)", text, re.MULTILINE)
        folder = _ROOT / (space[1] if space else "default") / (named[1] if named else "")
    try:
        return (folder / _RESULTS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def kubectl() -> None:
    """``kubectl_complete-orrery``: how kubectl asks a plugin for completions; one a line, then a colon and what to do.

    Asks as the fish shell does, whose answers have the same form.
    """
    from orrery.cli.main import app

    *words, incomplete = sys.argv[1:] or [""]
    os.environ |= {
        "_ORRERY_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": f"{shlex.join(['orrery', *words])} {incomplete}",
    }
    with contextlib.suppress(SystemExit):
        app(prog_name="orrery", obj={"cluster": True}, complete_var="_ORRERY_COMPLETE")
    print(":4")  # cobra's ShellCompDirectiveNoFileComp
