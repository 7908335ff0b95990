"""The tiny models, each made once, and the data they are shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.models.tiny_models import save_tiny
from tests.unit.probes.tasks import pairs, write_jsonl

Maker = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """``tiny(kind="llama", **config)``: the folder of a model of that kind with random weights."""
    made: dict[Any, Path] = {}

    def make(kind: str = "llama", **config: Any) -> Path:
        key = (kind, *sorted(config.items()))
        if key not in made:
            made[key] = save_tiny(tmp_path_factory.mktemp(kind), kind, **config)
        return made[key]

    return make


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty labelled texts."""
    return write_jsonl(tmp_path_factory.mktemp("data") / "data.jsonl", pairs(30))
