"""What is known before anything is measured: the data as it is read here, and the models' sizes from their files.

Neither torch nor transformers: a model's sizes are in its ``config.json`` and in the headers of its safetensors files.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orrery.api.catalogue import MODELS
from orrery.api.models import Model
from orrery.api.plan import AdaptationPlan
from orrery.api.sources import HuggingFaceSource
from orrery.costs.architecture import Reading, read_folder
from orrery.local.models import absent
from orrery.planning.candidates import InvalidPlan
from orrery.planning.types import Facts
from orrery.probes.data import read_task
from orrery.probes.errors import DataError, ProbeError
from orrery.probes.facts import task_facts
from orrery.probes.locations import SourceRoots
from orrery.probes.session import TaskData

#: Mean characters of a token of English text under a byte-pair vocabulary of 32k to 128k; a probe measures the real one.
CHARACTERS_A_TOKEN = 4.0
#: The data is fine as far as one knows, it only is not here.
UNREACHABLE = frozenset({"MissingAsset", "MissingPackage", "SourceNotFound"})


class _Estimate:
    """Stands in for a tokenizer: as many tokens as the text's characters suggest."""

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[range]]:
        return {"input_ids": [range(max(1, math.ceil(len(text) / CHARACTERS_A_TOKEN))) for text in texts]}


def read_facts(plan: AdaptationPlan, roots: SourceRoots, unreachable: Callable[[str], None] | None = None) -> Facts:
    """The facts of a plan.

    Raises InvalidPlan with a sentence for every model that cannot be and for data that cannot be used. Where ``unreachable``
    is given, it is called with the sentence instead if the data merely is not on this machine.
    """
    faults = absent(plan.spec.models, roots)
    readings = {model.name: model_reading(model, roots) for model in plan.spec.models}
    models = {name: reading.facts for name, reading in readings.items() if reading.facts is not None}
    uncertain = {name: reading.problem for name, reading in readings.items() if reading.problem is not None}
    try:
        data: TaskData | None = read_task(plan.spec.task, roots)
    except DataError as error:
        said = str(error)
        if said.startswith("task."):  # as it stands in a probe's spec
            said = f"spec.{said}"
        source = plan.spec.task.dataset.source
        elsewhere = source.pvc is not None or source.config_map is not None
        away = error.reason in UNREACHABLE or (elsewhere and error.reason == "PathNotFound")
        if unreachable is None or not away:
            raise InvalidPlan(*faults, said) from error
        unreachable(said)
        data = None
    if faults:
        raise InvalidPlan(*faults)
    if data is None:
        return Facts(models, uncertain=uncertain)
    return Facts(models, task_facts(plan.spec.task, data, _Estimate()), uncertain)


def model_reading(model: Model, roots: SourceRoots) -> Reading:
    """A model's sizes: as the plan says, from the catalogue, or from its files if they are on this machine."""
    if model.facts is not None:
        return Reading(model.facts)
    source = model.source
    if source.builtin is not None:
        known = MODELS.get(source.builtin.name)
        return Reading(known.facts if known else None)
    try:
        if source.local is not None:
            return read_folder(roots.of_local(source.local))
        if source.pvc is not None:
            return read_folder(roots.of_claim(source.pvc))
    except ProbeError:
        return Reading(None)  # the probe will say what is wrong
    folder = _cached(source.hugging_face) if source.hugging_face is not None else None
    return read_folder(folder) if folder is not None else Reading(None)


def _cached(source: HuggingFaceSource) -> Path | None:
    """The snapshot in the hub's cache on this machine, if there is one; nothing is downloaded."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface").expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    repository = cache / f"models--{source.repo.replace('/', '--')}"
    try:
        commit = (repository / "refs" / source.revision).read_text(encoding="utf-8").strip()
    except OSError:
        commit = source.revision
    folder = repository / "snapshots" / commit
    return folder if folder.is_dir() else None
