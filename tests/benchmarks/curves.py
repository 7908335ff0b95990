"""Measured learning curves as the benchmarks read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orrery.laws.posterior import Array
from tests.benchmarks.tables import InputError, files, number, read_csv, say

NAME, PARAMETERS, FAMILY = "config name", "size", "family"


@dataclass(frozen=True)
class Task:
    """Losses (n, m) of n models after tuning on ``sizes`` (m,), zero-shot losses (n,), parameters (n,) and families.

    NaN where nothing was measured or no number is known; at the largest size every model has a loss.
    """

    name: str
    models: list[str]
    sizes: Array
    losses: Array
    zero_shot: Array
    parameters: Array
    families: list[str]
    notes: tuple[str, ...] = ()


def read_task(path: Path) -> Task:
    """One csv: a model a row; columns ``config name``, training sizes from 0 (zero-shot) on, ``size`` and ``family``.

    A cell that is no positive number is a loss that was not measured. The largest size at which anything was measured is
    the one to forecast; models without it are left out, since nothing can be scored there.

    Raises:
        InputError: fewer than two training sizes or no model with the largest, so that it is no task.
    """
    columns, rows = read_csv(path)
    sizes = sorted({number(c) for c in columns if number(c) >= 0} - {0.0})
    by_size = {number(c): c for c in columns if number(c) >= 0}
    if len(sizes) < 2:
        raise InputError(
            f"{path.name} is no task: it needs a column for each training size, such as 0, 200 and 400, beside "
            f"{NAME!r}, {PARAMETERS!r} and {FAMILY!r}; found {', '.join(columns) or 'nothing'}"
        )

    def losses(size: float) -> Array:
        found = np.array([number(r[by_size[size]]) if size in by_size else np.nan for r in rows])
        return np.where(found > 0, found, np.nan)

    table = np.stack([losses(size) for size in sizes], axis=1)
    while len(sizes) > 1 and np.isnan(table[:, -1]).all():
        table, sizes = table[:, :-1], sizes[:-1]
    kept = np.flatnonzero(~np.isnan(table[:, -1]))
    if len(sizes) < 2 or not kept.size:
        raise InputError(f"{path.name} is no task: no model has losses at two training sizes or more")
    zero_shot, parameters = losses(0.0), np.array([number(r.get(PARAMETERS)) for r in rows])
    holes = int(np.isnan(table[kept]).sum())
    notes = [
        f"{path.stem}: {what}"
        for said, what in (
            (len(rows) - kept.size, f"{len(rows) - kept.size} of {len(rows)} models without a loss at {sizes[-1]:,.0f} left out"),
            (holes, f"{holes} losses of the others were not measured"),
            (np.isnan(zero_shot[kept]).any(), f"{int(np.isnan(zero_shot[kept]).sum())} models without a zero-shot loss"),
        )
        if said
    ]  # fmt: skip
    return Task(
        path.stem,
        [rows[i].get(NAME) or f"row {i + 1}" for i in kept],
        np.array(sizes),
        table[kept],
        zero_shot[kept],
        np.where(parameters > 0, parameters, np.nan)[kept],
        [rows[i].get(FAMILY, "") for i in kept],
        tuple(notes),
    )


def read_tasks(folder: Path) -> list[Task]:
    """Every csv of a folder that is a task, by name; what is left out is said.

    Raises:
        InputError: none is.
    """
    tasks, refused = [], []
    for path in files(folder):
        try:
            tasks.append(read_task(path))
        except InputError as refusal:
            refused.append(str(refusal))
    if not tasks:
        raise InputError("; ".join(refused))
    for note in [*refused, *(n for t in tasks for n in t.notes)]:
        say(note)
    return tasks
