"""Runs the commands of a page, in order, in a folder of their own; what a ```yaml block names is written there first."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.unit.docs.markdown import ROOT, Block, blocks

#: What pages refer to from the repository's root.
TREES = ("examples", "charts", "config", "crds")


def run(
    page: Path, folder: Path, kind: tuple[str, ...], environment: Mapping[str, str], edit: Callable[[str], str] = str
) -> int:
    """Run every ```sh block of ``kind`` (the words after the language) that is not marked; how many there were.

    Raises AssertionError with the page's line, the commands and what they said. ``edit`` changes files before they are written.
    """
    for tree in TREES:
        if not (folder / tree).exists():
            shutil.copytree(ROOT / tree, folder / tree)
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **environment}
    count = 0
    for block in blocks(page):
        if block.language == "yaml" and block.words:
            (folder / block.words[0]).write_text(edit(block.code), encoding="utf-8")
        if block.language == "sh" and block.words == kind and not block.not_run:
            _shell(block, folder, env)
            count += 1
    return count


def _shell(block: Block, folder: Path, env: Mapping[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.code],
        cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, f"{block.where}:\n{block.code}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
