"""AdaptationProbe: one load of one model, and every measurement that is taken from it.

A probe holds trials, each with its own strategy, configuration and fidelity, since loading is what costs most on small
fidelities: zero-shot, one shot and eight shots come from one load. A measurement is identified by its trial's key, not
by the probe that took it, so that another batch never pays for it again.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from orrery.api.base import (
    API_VERSION,
    ApiModel,
    CamelWord,
    Commit,
    Count,
    Name,
    ObjectMeta,
    ObjectName,
    PositiveCount,
    StatusModel,
    Text,
    Timestamp,
    refusal,
)
from orrery.api.models import Model, Precision
from orrery.api.plan import GridValue
from orrery.api.quantities import Money, Number
from orrery.api.task import Task


class Method(StrEnum):
    """How a trial measures."""

    DIRECT = "Direct"  #: the strategy itself, at the trial's fidelity
    PROXY = "Proxy"  #: a light head on frozen embeddings stands in for fine-tuning (COSMOS, arXiv 2505.01449)
    KERNEL = "Kernel"  #: empirical neural tangent kernel (LENSLLM, arXiv 2505.03793)
    EARLY = "Early"  #: the first steps of a training and their train loss, nothing scored (arXiv 2412.13337)


class Fidelity(ApiModel):
    """How much of the real thing is done."""

    method: Method = Field(Method.DIRECT, description="Direct, Proxy, Kernel or Early.")
    training_examples: Count = Field(
        0, description="Examples trained on or, for in-context learning, drawn from; 0: all or none."
    )
    evaluation_items: PositiveCount = Field(description="Items scored.")
    schedule_percent: Annotated[int, Field(strict=True, ge=1, le=99)] | None = Field(
        None, description="Method Early: share of the training's steps after which it is stopped, in percent."
    )

    @model_validator(mode="after")
    def _stopped_early(self) -> Self:
        if (self.method is Method.EARLY) != (self.schedule_percent is not None):
            raise refusal(
                "schedulePercent",
                f"is {self.schedule_percent} with method {self.method}: write it with method Early, such as 10, and only there",
            )
        return self


class Parameter(ApiModel):
    """One parameter of a configuration."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][A-Za-z0-9]*$", max_length=48)] = Field(
        description="Parameter, such as learningRate or shots."
    )
    value: GridValue = Field(description="Value, as the grid writes it.")


class Trial(ApiModel):
    """One measurement: a strategy in one configuration at one fidelity."""

    name: Name = Field(description="Short name, unique in the probe; its report uses it.")
    strategy: CamelWord = Field(description="Strategy plug-in.")
    parameters: Annotated[list[Parameter], Field(max_length=16, json_schema_extra={"x-list-map-key": "name"})] = Field(
        default_factory=list, description="Configuration; parameters left out have the strategy's defaults."
    )
    fidelity: Fidelity = Field(description="How much of the real thing is done.")
    seed: Count = Field(0, description="Seed of samples and training.")


class ProbeSpec(ApiModel):
    """What is measured. Immutable: another question is another probe."""

    model: Model = Field(description="Model that is loaded once.")
    task: Task = Field(description="Task that is measured.")
    trials: Annotated[list[Trial], Field(min_length=1, max_length=64, json_schema_extra={"x-list-map-key": "name"})] = (
        Field(description="Measurements that are taken from one load of the model.")
    )
    accelerator: Name = Field(description="Hardware that it is measured on.")
    deadline_seconds: PositiveCount = Field(description="The worst case that was reserved; enforced.")


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of a wire value; the same inputs give the same bytes."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def data_identity(task: Task) -> dict[str, Any]:
    """What makes two measurements comparable: data, template, type, metric and output bound."""
    identity = task.to_wire()
    identity["metric"].pop("direction", None)  # the metric's own, whether it was written out or not
    return identity


def model_identity(model: Model) -> dict[str, Any]:
    """What makes two models the same: the source (with revision) and architecture, not the plan's name for it."""
    identity = {"source": model.source.to_wire(), "architecture": model.architecture.value}
    if model.precision not in (None, Precision.BF16):
        identity["precision"] = model.precision.value  # rounded weights answer differently
    return identity


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

    name: Name = Field(description="Trial's name.")
    outcome: Outcome = Field(description="How the trial ended; out of memory is an answer.")
    score: Number | None = Field(None, description="The metric over the evaluation items.")
    items: Count = Field(0, description="Evaluation items scored.")
    bits: Annotated[str, StringConstraints(max_length=2048)] | None = Field(
        None, description="Per-item right or wrong, packed big-endian, base64 (metrics that are 0 or 1 per item)."
    )
    standard_error: Number | None = Field(None, description="Of the score, from the per-item scores.")
    train_seconds: Number | None = Field(None, description="Time spent training.")
    evaluation_seconds: Number | None = Field(None, description="Time spent scoring.")
    train_tokens: Count = Field(0, description="Tokens trained on, over all epochs.")
    evaluation_tokens: Count = Field(0, description="Tokens run through the model while scoring (after prefix reuse).")
    request_tokens: Number | None = Field(None, description="Mean prompt tokens of one request as it would be served.")
    output_tokens: Number | None = Field(None, description="Mean answer tokens of one request.")
    output_token_quantiles: Annotated[list[Count], Field(max_length=5)] = Field(
        default_factory=list,
        description="Of generated answers' tokens: 5th, 25th, 50th, 75th and 95th percentile over the items.",
    )
    output_tokens_error: Number | None = Field(
        None, description="Standard error of outputTokens, from the generated answers' lengths."
    )
    train_flops: Number | None = Field(None, description="Floating-point operations of training.")
    evaluation_flops: Number | None = Field(None, description="Floating-point operations of scoring.")
    peak_memory_bytes: Count | None = Field(None, description="Most memory that was held at a time.")
    train_loss: Annotated[list[Number], Field(max_length=16)] = Field(
        default_factory=list, description="Mean train loss over equal shares of the steps, in order."
    )
    kernel: Annotated[list[Number], Field(max_length=32)] = Field(
        default_factory=list,
        description="Method Kernel: eigenvalues of the tangent kernel, descending, then the residual's power along each.",
    )
    message: Text | None = Field(None, description="A sentence, where the outcome needs one.")


#: Training examples, the first ones, whose neighbours are asked for ``neighbour_vote``: all of smaller data.
NEIGHBOURS_ASKED = 512


class TaskFacts(StatusModel):
    """What a probe saw of the data."""

    digest: Annotated[str, StringConstraints(max_length=64)] = Field(description="SHA-256 of the read examples.")
    commit: Commit | None = Field(None, description="Commit of the hub's dataset that was read.")
    train_examples: Count = Field(description="Examples that may be trained on or shown.")
    evaluation_examples: Count = Field(description="Examples that quality may be measured on.")
    labels: Count = Field(0, description="Distinct labels (Classification).")
    chance: Number | None = Field(None, description="Score of the best constant answer.")
    neighbour_vote: Number | None = Field(
        None,
        description="Share of training examples whose label the four nearest others vote for, by BM25 (Classification).",
    )
    input_tokens: Number | None = Field(None, description="Mean tokens of one request without demonstrations.")
    example_tokens: Number | None = Field(None, description="Mean tokens of one demonstration.")
    output_tokens: Number | None = Field(None, description="Mean tokens of a right answer.")


class Report(StatusModel):
    """A probe's whole report: one JSON, at most 4,096 bytes, since Kubernetes cuts termination messages there."""

    version: Literal["orrery.dev/report/v1"] = Field("orrery.dev/report/v1", description="Schema of the report.")
    probe: Annotated[str, StringConstraints(max_length=63)] = Field(
        description="probe_name of the spec: a foreign report is refused."
    )
    complete: bool = Field(description="False while trials are still running: what was measured so far.")
    load_seconds: Number | None = Field(None, description="Time spent loading the model.")
    total_seconds: Number | None = Field(None, description="Time from start to end.")
    model_facts: Annotated[dict[str, Count], Field(max_length=16)] | None = Field(
        None, description="ModelFacts as read from the model."
    )
    architecture: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="The model's own name of its architecture."
    )
    model_commit: Commit | None = Field(None, description="Commit of the hub's model that was loaded.")
    model_problem: Text | None = Field(None, description="Why the model's sizes are uncertain, where they are.")
    task_facts: TaskFacts | None = Field(None, description="What was seen of the data.")
    trials: Annotated[list[TrialResult], Field(max_length=64, json_schema_extra={"x-list-map-key": "name"})] = Field(
        default_factory=list, description="Measurements, by trial."
    )
    error: Text | None = Field(None, description="A sentence, when no trial could be measured.")
    reason: CamelWord | None = Field(
        None, description="InvalidData, ModelNotFound, OutOfMemory, ... when there is an error."
    )


REPORT_LIMIT = 4096


class Attempt(StatusModel):
    """One run of a probe and how it ended."""

    number: PositiveCount = Field(description="1 for the first.")
    job_name: Annotated[str, StringConstraints(max_length=63)] = Field(description="Job (or process) that ran it.")
    phase: Literal["Reserved", "Queued", "Running", "Succeeded", "Failed"] = Field(description="Where it stands.")
    reserved: Money = Field(description="Worst case, held until the attempt ends.")
    paid_by: ObjectName | None = Field(None, description="Plan whose budget it counts against.")
    environment: Annotated[str, StringConstraints(max_length=16)] | None = Field(
        None, description="Digest of the image and settings it ran with: a failure counts as long as they are the same."
    )
    image: Annotated[str, StringConstraints(max_length=512)] | None = Field(
        None, description="Image that ran, with the digest that its node resolved it to."
    )
    price_per_hour: Money | None = Field(None, description="Of all its accelerators, when it was reserved.")
    cost: Money | None = Field(None, description="What it cost, at the price of the day it ran.")
    seconds: Number | None = Field(None, description="Accelerator-seconds used.")
    reserved_at: Timestamp | None = Field(None, description="When its worst case was set aside.")
    started_at: Timestamp | None = Field(None, description="When it began to run.")
    finished_at: Timestamp | None = Field(None, description="When it ended.")
    reason: CamelWord | None = Field(None, description="Why it failed or waits.")
    message: Text | None = Field(None, description="The same as a sentence.")


class ProbeStatus(StatusModel):
    """What became of the probe."""

    observed_generation: Count | None = Field(None, description="Generation of the spec that this status is about.")
    phase: Literal["Pending", "Queued", "Running", "Succeeded", "Failed"] = Field(
        "Pending", description="Where the latest attempt stands."
    )
    attempts: Annotated[list[Attempt], Field(max_length=16, json_schema_extra={"x-list-map-key": "number"})] = Field(
        default_factory=list, description="Runs of this probe, with what each cost."
    )
    report: Report | None = Field(None, description="The latest report; partial if no attempt was completed.")
    reason: CamelWord | None = Field(None, description="Why it failed or waits.")
    message: Text | None = Field(None, description="The same as a sentence.")


class AdaptationProbe(ApiModel):
    """One measurement run, owned by every plan that needs it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api_version: Literal["orrery.dev/v1alpha1"] = Field(API_VERSION, description="orrery.dev/v1alpha1.")
    kind: Literal["AdaptationProbe"] = Field("AdaptationProbe", description="AdaptationProbe.")
    metadata: ObjectMeta = Field(description="Kubernetes' metadata.")
    spec: ProbeSpec = Field(description="What is measured. Immutable.")
    status: ProbeStatus | None = Field(None, description="What became of it; written by Orrery alone.")
