"""What cannot fit, cannot be read or cannot be paid is rejected on paper, with the arithmetic in the sentence.

Measured impossibilities count here too: a configuration that ran out of memory, and every one of its group that needs at
least as much; a strategy the machine does not support; a training that diverged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orrery.api.models import ModelFacts
from orrery.api.probe import Method, Outcome
from orrery.costs.accelerators import AcceleratorFacts
from orrery.costs.flops import Training
from orrery.costs.memory import memory_sd, shape_known, training_memory
from orrery.costs.serving import BYTES
from orrery.costs.work import Work
from orrery.planning.candidates import CandidateGroup
from orrery.strategies.base import Evidence
from orrery.strategies.trials import parameters_of

GIB = 2.0**30
Reasons = NDArray[np.object_]  #: a sentence for each candidate, or None


def admitted(reasons: Reasons) -> NDArray[np.bool_]:
    """Which candidates nothing rejects."""
    return np.array([r is None for r in reasons], dtype=np.bool_)


@dataclass(frozen=True)
class Memory:
    """Bytes a configuration needs at its peak, (n,), and what they are made of."""

    needed: NDArray[np.float64]
    training: NDArray[np.bool_]  #: whether the peak is in training


def memory_of(work: Work, accelerator: AcceleratorFacts) -> Memory:
    """The larger of training and serving; on a CPU the whole process that trains counts."""
    trained = work.process_memory if accelerator.is_host and work.process_memory is not None else work.adaptation_memory
    return Memory(np.maximum(trained, work.serving_memory), trained > work.serving_memory)


def gate_memory(group: CandidateGroup, work: Work, facts: ModelFacts | None, accelerator: AcceleratorFacts) -> Reasons:
    """Rejections of a group's configurations on one accelerator; nobody is rejected on unknown sizes."""
    reasons: Reasons = np.full(group.size, None, dtype=object)
    if facts is None or accelerator.memory_bytes is None:
        return reasons
    memory = memory_of(work, accelerator)
    # a guess from the number of parameters alone rejects only what its lower bound rejects (90 %, one-sided)
    surely = memory.needed if shape_known(facts) else memory.needed * np.exp(-1.2816 * memory_sd(facts))
    for i in np.flatnonzero(surely > accelerator.memory_bytes):
        needed = memory.needed[i] / GIB
        frozen = group.plugin.training
        if memory.training[i] and frozen is not None:
            weights = float(training_memory(facts, frozen, 0, 0, 0)) / GIB
            process = " and its process" if accelerator.is_host else ""
            parts = f"frozen weights {weights:.1f} + trained weights, optimizer, activations{process} {needed - weights:.1f}"
            if frozen is Training.FULL:
                optimizer = float(training_memory(facts, frozen, facts.parameters, 0, 0)) / GIB
                parts = f"weights and optimizer {optimizer:.1f} + activations{process} {needed - optimizer:.1f}"
            what = "training"
        else:
            weights = BYTES[group.model.precision] * facts.parameters / GIB
            parts, what = f"weights {weights:.1f} + buffers and KV cache {needed - weights:.1f}", "serving"
        reasons[i] = (
            f"{what} needs {needed:.1f} GiB ({parts}) and {accelerator.name} has {accelerator.memory_bytes / GIB:.1f} GiB"
        )
    return reasons


def gate_context(group: CandidateGroup, work: Work, facts: ModelFacts | None) -> Reasons:
    """Rejections of prompts that are longer than the model reads."""
    reasons: Reasons = np.full(group.size, None, dtype=object)
    limit = facts.context_length if facts is not None else None
    if limit is None:
        return reasons
    tokens = work.request_input_tokens + work.request_output_tokens
    for i in np.flatnonzero(tokens > limit):
        reasons[i] = (
            f"a request takes {tokens[i]:,.0f} tokens ({work.request_input_tokens[i]:,.0f} prompt + "
            f"{work.request_output_tokens[i]:,.0f} answer) and {group.model.name} reads {limit:,}"
        )
    return reasons


def gate_measured(
    group: CandidateGroup, work: Work, evidence: Sequence[Evidence], accelerator: AcceleratorFacts, facts_known: bool
) -> Reasons:
    """Rejections by what probes ran into: out of memory (and whatever needs as much), unsupported, diverged."""
    reasons: Reasons = np.full(group.size, None, dtype=object)
    memory = memory_of(work, accelerator).needed
    for e in evidence:
        real = e.trial.fidelity.method in (Method.DIRECT, Method.EARLY)
        if e.trial.strategy != group.plugin.type or e.result.outcome is Outcome.MEASURED or not real:
            continue
        said = f": {e.result.message}" if e.result.message else ""
        hit = _matches(group.columns, parameters_of(e.trial))
        if e.result.outcome is Outcome.UNSUPPORTED:
            # What cannot be trained here cannot be trained with any grid; without training the parameters decide.
            everyone = np.ones(group.size, dtype=np.bool_)
            _fill(
                reasons,
                hit if group.plugin.training is None else everyone,
                f"{group.plugin.type} does not run here{said}",
            )
        elif e.result.outcome is Outcome.OUT_OF_MEMORY and e.accelerator == accelerator.name:
            _fill(reasons, hit, f"ran out of memory on {accelerator.name} when it was probed{said}")
            if facts_known and hit.any():
                more = memory >= memory[hit].min()
                _fill(
                    reasons,
                    more,
                    f"needs at least the {memory[hit].min() / GIB:.1f} GiB with which another configuration "
                    f"ran out of memory on {accelerator.name}",
                )
        elif e.result.outcome is Outcome.DIVERGED:
            _fill(reasons, hit, f"diverged when it was probed on {e.trial.fidelity.training_examples} examples{said}")
        elif e.result.outcome is Outcome.FAILED and not e.trial.fidelity.training_examples:
            _fill(reasons, hit, f"could not be probed{said}")
    return reasons


def _matches(columns: Mapping[str, Sequence[str]], parameters: Mapping[str, str]) -> NDArray[np.bool_]:
    """Configurations with these parameters; the share of the data is not among a trial's parameters."""
    size = len(next(iter(columns.values()))) if columns else 1
    hit = np.ones(size, dtype=bool)
    for name, value in parameters.items():
        if name in columns:
            hit &= np.array([v == value for v in columns[name]])
    return hit


def _fill(reasons: Reasons, where: NDArray[np.bool_], text: str) -> None:
    for i in np.flatnonzero(where):
        if reasons[i] is None:
            reasons[i] = text
