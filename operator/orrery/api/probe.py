"""AdaptationProbe: one load of one model, and every measurement that is taken from it.

A probe holds trials, each with its own strategy, configuration and fidelity, since loading is what costs most on small
fidelities: zero-shot, one shot and eight shots come from one load. A measurement is identified by its trial's key, not
by the probe that took it, so that another batch never pays for it again.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from orrery.api.base import API_VERSION, ApiModel, CamelWord, Count, Name, ObjectMeta, PositiveCount, StatusModel, Text
from orrery.api.plan import GridValue, Model
from orrery.api.quantities import Money, Number
from orrery.api.task import Task


class Method(StrEnum):
    """How a trial measures."""

    DIRECT = "Direct"  #: the strategy itself, at the trial's fidelity
    PROXY = "Proxy"  #: a light head on frozen embeddings stands in for fine-tuning (COSMOS, arXiv 2505.01449)
    KERNEL = "Kernel"  #: empirical neural tangent kernel (LENSLLM, arXiv 2505.03793)


class Fidelity(ApiModel):
    """How much of the real thing is done."""

    method: Method = Field(Method.DIRECT, description="Direct, Proxy or Kernel.")
    training_examples: Count = Field(
        0, description="Examples trained on or, for in-context learning, drawn from; 0: all or none."
    )
    evaluation_items: PositiveCount = Field(description="Items scored.")


class Parameter(ApiModel):
    """One parameter of a configuration."""

    name: Annotated[str, StringConstraints(max_length=48)]
    value: GridValue


class Trial(ApiModel):
    """One measurement: a strategy in one configuration at one fidelity."""

    name: Name = Field(description="Short name, unique in the probe; its report uses it.")
    strategy: CamelWord = Field(description="Strategy plug-in.")
    parameters: Annotated[list[Parameter], Field(max_length=16)] = Field(default_factory=list)
    fidelity: Fidelity
    seed: Count = 0


class ProbeSpec(ApiModel):
    """What is measured. Immutable: another question is another probe."""

    model: Model = Field(description="Model that is loaded once.")
    task: Task = Field(description="Task that is measured.")
    trials: Annotated[list[Trial], Field(min_length=1, max_length=64, json_schema_extra={"x-list-map-key": "name"})]
    accelerator: Name = Field(description="Hardware that it is measured on.")
    deadline_seconds: PositiveCount = Field(description="The worst case that was reserved; enforced.")


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of a wire value; the same inputs give the same bytes."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def data_identity(task: Task) -> dict[str, Any]:
    """What makes two measurements comparable: data, template, type, metric and output bound."""
    return task.to_wire()


def model_identity(model: Model) -> dict[str, Any]:
    """What makes two models the same: the source (with revision) and architecture, not the plan's name for it."""
    return {"source": model.source.to_wire(), "architecture": model.architecture.value}


def trial_key(model: Model, task: Task, trial: Trial, accelerator: str) -> str:
    """Identity of a measurement; 16 hex digits. Names are left out, since they change nothing that is measured."""
    return digest(
        {
            "model": model_identity(model),
            "task": data_identity(task),
            "strategy": trial.strategy,
            "parameters": sorted((p.name, p.value) for p in trial.parameters),
            "fidelity": trial.fidelity.to_wire(),
            "seed": trial.seed,
            "accelerator": accelerator,
        }
    )[:16]


def probe_name(spec: ProbeSpec) -> str:
    """Deterministic object name: the hash of what is measured, whatever order or names it was written in."""
    keys = sorted(trial_key(spec.model, spec.task, t, spec.accelerator) for t in spec.trials)
    return f"probe-{digest(keys)[:16]}"


class Outcome(StrEnum):
    """How a trial ended."""

    MEASURED = "Measured"
    OUT_OF_MEMORY = "OutOfMemory"  #: an answer, not a failure: the candidate does not fit
    UNSUPPORTED = "Unsupported"  #: the strategy cannot run with this model or on this machine
    DIVERGED = "Diverged"  #: a loss or score that is not a finite number
    FAILED = "Failed"


class TrialResult(StatusModel):
    """What a trial measured; scores are decimal strings, never floats that drift between writers."""

    name: Name
    outcome: Outcome
    score: Number | None = Field(None, description="The metric over the evaluation items.")
    items: Count = Field(0, description="Evaluation items scored.")
    bits: Annotated[str, StringConstraints(max_length=2048)] | None = Field(
        None, description="Per-item right or wrong, packed big-endian, base64 (metrics that are 0 or 1 per item)."
    )
    standard_error: Number | None = Field(None, description="Of the score, from the per-item scores.")
    train_seconds: Number | None = None
    evaluation_seconds: Number | None = None
    train_tokens: Count = 0
    evaluation_tokens: Count = Field(0, description="Tokens run through the model while scoring (after prefix reuse).")
    request_tokens: Number | None = Field(None, description="Mean prompt tokens of one request as it would be served.")
    output_tokens: Number | None = Field(None, description="Mean answer tokens of one request.")
    train_flops: Number | None = None
    evaluation_flops: Number | None = None
    peak_memory_bytes: Count | None = None
    train_loss: Annotated[list[Number], Field(max_length=16)] = Field(
        default_factory=list, description="Mean train loss over equal shares of the steps, in order."
    )
    message: Text | None = None


class TaskFacts(StatusModel):
    """What a probe saw of the data."""

    digest: Annotated[str, StringConstraints(max_length=64)] = Field(description="SHA-256 of the read examples.")
    train_examples: Count
    evaluation_examples: Count
    labels: Count = 0
    chance: Number | None = Field(None, description="Score of the best constant answer.")
    input_tokens: Number | None = Field(None, description="Mean tokens of one request without demonstrations.")
    example_tokens: Number | None = Field(None, description="Mean tokens of one demonstration.")
    output_tokens: Number | None = Field(None, description="Mean tokens of a right answer.")


class Report(StatusModel):
    """A probe's whole report: one JSON, at most 4,096 bytes, since Kubernetes cuts termination messages there."""

    version: Literal["orrery.dev/report/v1"] = "orrery.dev/report/v1"
    probe: Annotated[str, StringConstraints(max_length=63)] = Field(
        description="probe_name of the spec: a foreign report is refused."
    )
    complete: bool = Field(description="False while trials are still running: what was measured so far.")
    load_seconds: Number | None = None
    total_seconds: Number | None = None
    model_facts: dict[str, int] | None = Field(None, description="ModelFacts as read from the model.")
    architecture: Annotated[str, StringConstraints(max_length=64)] | None = None
    task_facts: TaskFacts | None = None
    trials: Annotated[list[TrialResult], Field(max_length=64)] = Field(default_factory=list)
    error: Text | None = Field(None, description="A sentence, when no trial could be measured.")
    reason: CamelWord | None = Field(
        None, description="InvalidData, ModelNotFound, OutOfMemory, ... when there is an error."
    )


REPORT_LIMIT = 4096


class Attempt(StatusModel):
    """One run of a probe and how it ended."""

    number: PositiveCount
    job_name: Annotated[str, StringConstraints(max_length=63)]
    phase: Literal["Reserved", "Queued", "Running", "Succeeded", "Failed"]
    reserved: Money = Field(description="Worst case, held until the attempt ends.")
    cost: Money | None = Field(None, description="What it cost, at the price of the day it ran.")
    seconds: Number | None = Field(None, description="Accelerator-seconds used.")
    started_at: Annotated[str, StringConstraints(max_length=32)] | None = None
    finished_at: Annotated[str, StringConstraints(max_length=32)] | None = None
    reason: CamelWord | None = None
    message: Text | None = None


class ProbeStatus(StatusModel):
    """What became of the probe."""

    observed_generation: int | None = None
    phase: Literal["Pending", "Queued", "Running", "Succeeded", "Failed"] = "Pending"
    attempts: Annotated[list[Attempt], Field(max_length=16)] = Field(default_factory=list)
    report: Report | None = None
    reason: CamelWord | None = None
    message: Text | None = None


class AdaptationProbe(ApiModel):
    """One measurement run, owned by every plan that needs it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api_version: Literal["orrery.dev/v1alpha1"] = API_VERSION
    kind: Literal["AdaptationProbe"] = "AdaptationProbe"
    metadata: ObjectMeta
    spec: ProbeSpec
    status: ProbeStatus | None = None
