"""``orrery crds``: the CustomResourceDefinitions, from the models."""

from __future__ import annotations

import sys
from pathlib import Path

from orrery.api.crd import documents
from orrery.cli.failures import Exit


def crds(output: Path | None, check: bool) -> int:
    """Write every definition to the folder ``output``, or all of them to standard output.

    With ``check`` nothing is written: returns 1, and names the files, if the folder's content is not what the models say.
    """
    texts = documents()
    if output is None and check:
        sys.stderr.write("error: --check is given without a folder: give it with --output DIR\n")
        return Exit.BAD_INPUT
    if output is None:
        sys.stdout.write("---\n".join(texts.values()))
        return 0
    found = {path.name: path.read_text() for path in output.glob("*.orrery.dev.yaml")}
    stale = sorted(name for name in {*texts, *found} if texts.get(name) != found.get(name))
    if check:
        for name in stale:
            sys.stderr.write(f"{output / name} is stale: run `orrery crds --output {output}`\n")
        return 1 if stale else 0
    output.mkdir(parents=True, exist_ok=True)
    for name in stale:
        if name in texts:
            (output / name).write_text(texts[name])
        else:
            (output / name).unlink()
    return 0
