"""Tasks over files, for tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orrery.api.task import Task


def local_task(path: Path, kind: str = "Classification", **dataset: Any) -> Task:
    metric = {"name": "ExactMatch"} if kind == "Generation" else {"name": "Accuracy"}
    source = {"source": {"local": {"path": str(path)}}}
    return Task.model_validate({"type": kind, "metric": metric, "dataset": {**source, **dataset}})


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pairs(n: int, labels: int = 3, offset: int = 0) -> list[dict[str, str]]:
    return [{"input": f"text {i + offset}", "target": f"label {i % labels}"} for i in range(n)]
