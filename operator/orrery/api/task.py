"""The task: data, how to read it, and how answers are scored."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from orrery.api.base import ApiModel, is_empty, refusal, refuse
from orrery.api.sources import DataSource

Column = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class TaskType(StrEnum):
    """What an answer is."""

    CLASSIFICATION = "Classification"  #: one of a fixed set of labels
    MULTIPLE_CHOICE = "MultipleChoice"  #: one of the item's own options
    GENERATION = "Generation"  #: free text


class MetricName(StrEnum):
    """How answers are scored, averaged over the evaluation items."""

    ACCURACY = "Accuracy"
    EXACT_MATCH = "ExactMatch"
    TOKEN_F1 = "TokenF1"
    NEGATIVE_LOG_LIKELIHOOD = "NegativeLogLikelihood"


class Direction(StrEnum):
    """Whether more is better."""

    MAXIMIZE = "Maximize"
    MINIMIZE = "Minimize"


class Metric(ApiModel):
    """The quality that is forecast."""

    name: MetricName = Field(MetricName.ACCURACY, description="Metric, averaged over the evaluation items.")
    direction: Direction | None = Field(
        None, description="Defaults to Minimize for NegativeLogLikelihood and to Maximize for the rest."
    )

    @model_validator(mode="after")
    def _sense(self) -> Self:
        if self.direction not in (None, self.sense):
            raise refusal("direction", f"is {self.direction}, but {self.name} is {self.sense}: leave direction out")
        return self

    @property
    def sense(self) -> Direction:
        """The direction that is better."""
        return Direction.MINIMIZE if self.name is MetricName.NEGATIVE_LOG_LIKELIHOOD else Direction.MAXIMIZE

    @property
    def bounded(self) -> bool:
        """Whether scores lie in [0, 1]."""
        return self.name is not MetricName.NEGATIVE_LOG_LIKELIHOOD


class Splits(ApiModel):
    """Names of the splits; a source with one split is divided by ``evaluationPercent``, deterministically."""

    train: Column = Field("train", description="Split that demonstrations and training examples come from.")
    evaluation: Column = Field("validation", description="Split that quality is measured on.")
    evaluation_percent: Annotated[int, Field(strict=True, ge=1, le=90)] = Field(
        30, description="Percent of a source without an evaluation split that is kept for evaluation."
    )


class Columns(ApiModel):
    """Names of the columns."""

    input: Column = Field("input", description="Column with the request's text.")
    target: Column = Field("target", description="Column with the right answer.")
    options: Column | None = Field(None, description="Column with the item's options (MultipleChoice).")


class Dataset(ApiModel):
    """Where the examples are and what their columns mean."""

    source: DataSource = Field(description="Exactly one source.")
    splits: Splits = Field(default_factory=Splits, description="Split names.")
    columns: Columns = Field(default_factory=Columns, description="Column names.")


class Template(ApiModel):
    """The prompt of causal models: instruction, then demonstrations, then the request, in the same form."""

    instruction: Annotated[str, StringConstraints(max_length=4096)] = Field(
        "", exclude_if=is_empty, description="Text before everything."
    )
    example: Annotated[str, StringConstraints(min_length=1, max_length=4096)] = Field(
        "Input: {input}\nAnswer:", description="One request; {input} stands for its text. The answer follows it."
    )
    separator: Annotated[str, StringConstraints(max_length=16)] = Field("\n\n", description="Between examples.")

    @model_validator(mode="after")
    def _placeholder(self) -> Self:
        if self.example.count("{input}") != 1:
            raise refusal(
                "example",
                f"is {self.example!r}: write the placeholder {{input}} exactly once, "
                "such as 'Question: {input}\\nAnswer:'",
            )
        return self


class Task(ApiModel):
    """What is asked of the models, on which data, scored how."""

    type: TaskType = Field(TaskType.CLASSIFICATION, description="What an answer is.")
    dataset: Dataset = Field(description="Examples with right answers.")
    template: Template = Field(default_factory=Template, description="Prompt of causal models.")
    metric: Metric = Field(default_factory=Metric, description="Quality measure.")
    max_output_tokens: Annotated[int, Field(strict=True, ge=1, le=4096)] = Field(
        32, description="Longest answer that is generated (Generation)."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        columns, source, faults = self.dataset.columns, self.dataset.source, []
        if self.type is TaskType.MULTIPLE_CHOICE and columns.options is None and source.builtin is None:
            said = "is missing: write the name of the options' column, which a MultipleChoice task needs"
            faults.append(("dataset.columns.options", said))
        if self.type is not TaskType.GENERATION and self.metric.name is MetricName.TOKEN_F1:
            said = "is TokenF1, which scores Generation tasks: write Accuracy or ExactMatch"
            faults.append(("metric.name", said))
        refuse(faults)
        return self
