"""A plan's models: where they come from, how they answer, and their sizes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import (
    Field,
    StringConstraints,
)

from orrery.api.base import ApiModel, Name, PositiveCount
from orrery.api.sources import ModelSource


class Architecture(StrEnum):
    """How a model answers."""

    CAUSAL = "Causal"  #: scores or generates text
    ENCODER = "Encoder"  #: embeds text; a head classifies it


class ModelFacts(ApiModel):
    """Sizes from the model's own config, so that memory and cost are known before a weight is loaded."""

    parameters: PositiveCount = Field(description="Number of parameters.")
    layers: PositiveCount | None = Field(None, description="Transformer layers.")
    hidden_size: PositiveCount | None = Field(None, description="Width of the residual stream.")
    heads: PositiveCount | None = Field(None, description="Attention heads.")
    kv_heads: PositiveCount | None = Field(None, description="Key-value heads.")
    head_size: PositiveCount | None = Field(None, description="Width of a head; hiddenSize / heads by default.")
    intermediate_size: PositiveCount | None = Field(None, description="Width of the feed-forward network.")
    active_parameters: PositiveCount | None = Field(
        None, description="Parameters a token is multiplied with: fewer where experts are routed; all by default."
    )
    experts: PositiveCount | None = Field(None, description="Routed experts of a layer; none by default.")
    experts_per_token: PositiveCount | None = Field(None, description="Of those, how many a token is sent to.")
    vocabulary_size: PositiveCount | None = Field(None, description="Tokens in the vocabulary.")
    context_length: PositiveCount | None = Field(None, description="Longest sequence in tokens.")


class Precision(StrEnum):
    """Bits of the weights that a model is served with, and probed with."""

    BF16 = "Bf16"  #: sixteen bits, as most models are published
    INT8 = "Int8"  #: eight bits, outliers apart (LLM.int8, arXiv 2208.07339)
    INT4 = "Int4"  #: four bits, NF4 (QLoRA, arXiv 2305.14314)


class Model(ApiModel):
    """A candidate model."""

    name: Name = Field(description="Name in this plan.")
    source: ModelSource = Field(description="Exactly one source.")
    architecture: Architecture = Field(Architecture.CAUSAL, description="Causal or Encoder.")
    family: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="Models of one family share strength in forecasts, e.g. smollm2."
    )
    facts: ModelFacts | None = Field(None, description="Sizes, if known; else the first probe reports them.")
    precision: Precision | None = Field(
        None,
        description="Bits of the weights, to serve and to probe with; as published by default. List a model once for each.",
    )
    hosted_as: Name | None = Field(
        None,
        description="Entry of the PriceList's hostedModels: what trains nothing is then paid for by the token.",
    )
