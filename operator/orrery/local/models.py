"""Models that cannot be there, told before anything is paid: a name that is not in the catalogue, a folder without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orrery.api.catalogue import builtin_model
from orrery.api.models import Model
from orrery.probes.errors import ModelError, ProbeError
from orrery.probes.locations import SourceRoots


def absent(models: Sequence[Model], roots: SourceRoots) -> list[str]:
    """A sentence for every builtin model that does not exist and every folder of this machine that holds no model.

    What lies on a claim that is not mapped here, or on the hub, is the probe's to find.
    """
    sentences = []
    for model in models:
        prefix = f"spec.models[{model.name}]."
        source = model.source
        try:
            if source.builtin is not None:
                _listed(model, prefix)
            elif source.local is not None:
                _holds_a_model(roots.of_local(source.local), "local.path", source.local.path)
            elif source.pvc is not None and source.pvc.claim_name in roots.pvc:
                _holds_a_model(roots.of_claim(source.pvc), "pvc.path", source.pvc.path)
        except ProbeError as error:
            message = str(error)
            sentences.append(message if message.startswith(prefix) else f"{prefix}source.{message}")
    return sentences


def _listed(model: Model, prefix: str) -> None:
    assert model.source.builtin is not None
    try:
        entry = builtin_model(model.source.builtin.name)
    except ValueError as error:
        raise ModelError("UnknownAsset", str(error)) from None
    if entry.architecture is not model.architecture:
        raise ModelError(
            "UnreadableModel",
            f"{prefix}architecture is {model.architecture}, and the builtin model '{entry.name}' is "
            f"{entry.architecture}: write {entry.architecture}",
        )


def _holds_a_model(folder: Path, field: str, written: str) -> None:
    if not (folder / "config.json").is_file():
        raise ModelError(
            "UnreadableModel",
            f"{field} is '{written}', and there is no config.json in {folder}: write the folder of a model in the "
            "Hugging Face layout (config.json, tokenizer, weights)",
        )
