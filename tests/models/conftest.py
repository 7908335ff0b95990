"""The tiny models, each made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.models.tiny_models import save_tiny

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
