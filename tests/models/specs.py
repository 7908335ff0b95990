"""Probes of tiny models, and the models loaded as probes load them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orrery.api.models import Model
from orrery.api.probe import ProbeSpec
from orrery.probes.session import LoadedModel
from tests.unit.probes.tasks import local_task

ZERO = {"name": "zero", "strategy": "ZeroShot"}


def model_at(folder: Path, architecture: str = "Causal") -> Model:
    return Model.model_validate(
        {"name": "tiny", "architecture": architecture, "source": {"local": {"path": str(folder)}}}
    )


def load(folder: Path, monkeypatch: pytest.MonkeyPatch, architecture: str = "Causal") -> LoadedModel:
    import torch

    from orrery.probes import models

    monkeypatch.setattr(models, "pick_dtype", lambda device: torch.float32)
    return models.load(model_at(folder, architecture))


def spec_of(folder: Path, data: Path, *trials: dict[str, Any], kind: str = "Classification", **task: Any) -> ProbeSpec:
    wire = {**local_task(data, kind).to_wire(), **task}
    return ProbeSpec.model_validate(
        {
            "model": model_at(folder).to_wire(),
            "task": wire,
            "accelerator": "cpu",
            "deadlineSeconds": 60,
            "trials": [{"fidelity": {"evaluationItems": 6}, **trial} for trial in trials],
        }
    )


def shots(k: int, retriever: str = "random", calibration: str = "none", seed: int = 0) -> dict[str, Any]:
    values = {"shots": str(k), "retriever": retriever, "calibration": calibration}
    parameters = [{"name": n, "value": v} for n, v in values.items()]
    name = f"k{k}-{retriever}-{calibration}-{seed}"
    return {"name": name, "strategy": "InContext", "parameters": parameters, "seed": seed}
