"""Measured learning curves as the benchmarks read them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orrery.laws.posterior import Array


@dataclass(frozen=True)
class Task:
    """Losses (n, m) of n models after tuning on ``sizes`` (m,), zero-shot losses (n,), parameters (n,) and families."""

    name: str
    models: list[str]
    sizes: Array
    losses: Array
    zero_shot: Array
    parameters: Array
    families: list[str]


def read_task(path: Path) -> Task:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError(f"{path.name} holds no curve: one row a model is expected below the header")
    columns = sorted((c for c in rows[0] if c.isdigit()), key=int)
    missing = {"config name", "size", "family"} - set(rows[0])
    if missing or columns[:1] != ["0"]:
        raise ValueError(
            f"{path.name} needs columns 'config name', training sizes from 0, 'size', 'family'; missing {missing}"
        )
    rows = [r for r in rows if r[columns[-1]]]  # a model without the largest size has nothing to be scored against
    losses = np.array([[float(r[c]) if r[c] else np.nan for c in columns] for r in rows])
    return Task(
        path.stem,
        [r["config name"] for r in rows],
        np.array([float(c) for c in columns[1:]]),
        losses[:, 1:],
        losses[:, 0],
        np.array([float(r["size"]) for r in rows]),
        [r["family"] for r in rows],
    )


def read_tasks(folder: Path) -> list[Task]:
    """Every csv of a folder, by name."""
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        raise ValueError(f"--data {folder} holds no csv; give the folder with one csv a task")
    return [read_task(p) for p in paths]
