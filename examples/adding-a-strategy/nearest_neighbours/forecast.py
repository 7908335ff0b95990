"""The four answers of the strategy NearestNeighbours: configurations, probes, quality, work. Pure: no model, no file, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from orrery.api.models import Model
from orrery.api.task import MetricName, Task, TaskType
from orrery.costs.flops import Training, inference_flops
from orrery.costs.work import Work
from orrery.laws.posterior import Array, Posterior
from orrery.strategies.base import Group, Kind, ParameterSpec, Proposal, QualityForecast
from orrery.strategies.tokens import count_tokens, facts_of, serving_bytes
from orrery.strategies.trials import (
    attempted,
    direct,
    evaluation_size,
    identity,
    make_trial,
    numbers,
    observed,
    parameters_of,
)

NEIGHBOURS = ParameterSpec(
    "neighbours", Kind.INTEGER, ("1", "5", "15"), "Training examples that vote.", Decimal(1), Decimal(100)
)
#: Standard deviations on the logit scale: of the level that all numbers of neighbours share, and of each one's own part.
_LEVEL_SD, _OWN_SD = 1.0, 0.35


@dataclass(frozen=True)
class NearestNeighbours:
    """Votes of the nearest training examples, by the cosine of frozen embeddings (Cover and Hart 1967)."""

    type: str = "NearestNeighbours"
    training: Training | None = None  # no weight changes
    parameters: tuple[ParameterSpec, ...] = (NEIGHBOURS,)

    def refusal(self, model: Model, task: Task) -> str | None:
        """Votes choose among labels, and are no probabilities."""
        if task.type is not TaskType.CLASSIFICATION or task.metric.name is not MetricName.ACCURACY:
            return "NearestNeighbours votes for labels: use it with task.type Classification and the metric Accuracy"
        return None

    def proposals(self, group: Group) -> Sequence[Proposal]:
        """Each number of neighbours that was not measured: one pass of embeddings, over training and evaluation examples."""
        covariance, done = self._belief(group)[1], attempted(group.evidence)
        noise = 1.0 / np.sqrt(evaluation_size(group) * 0.25)  # of a logit near one half
        flops = float(self._index_flops(group) + evaluation_size(group) * self._request_flops(group))
        found = []
        for i, k in enumerate(group.columns["neighbours"]):
            trial = make_trial(group, self.type, {"neighbours": k})
            if identity(trial) not in done:
                shift = covariance[:, i] / np.sqrt(covariance[i, i] + noise**2)
                found.append(Proposal(trial, shift, 0.0, flops))
        return found

    def forecast(self, group: Group) -> QualityForecast:
        """What was measured, what that says of the other numbers of neighbours, and the prior where nothing was."""
        mean, covariance = self._belief(group)
        seen = {parameters_of(e.trial)["neighbours"] for e in direct(group.evidence, self.type)}
        measured = np.array([k in seen for k in group.columns["neighbours"]], dtype=np.bool_)
        return QualityForecast(Posterior(mean, np.sqrt(np.diag(covariance)), group.link), measured)

    def work(self, group: Group, input_tokens: float | None, output_tokens: float | None) -> Work:
        """Adapting embeds the training examples once; a request is one embedding and a product with that table."""
        counts, each = count_tokens(group, input_tokens, output_tokens), np.ones(group.size)
        return Work(
            adaptation_flops=self._index_flops(group) * each,
            adaptation_tokens=0.0 * each,  # nothing is trained
            request_input_tokens=counts.input * each,
            request_output_tokens=0.0 * each,
            request_flops=self._request_flops(group, input_tokens) * each,
            adaptation_memory=0.0 * each,
            serving_memory=serving_bytes(group, counts.input * each, counts),
        )

    def _belief(self, group: Group) -> tuple[Array, Array]:
        """Mean (n,) and covariance (n, n) on the link scale: a Gaussian process over the logarithm of the neighbours."""
        at = np.log(numbers(group.columns["neighbours"]))
        distance = at[:, None] - at[None, :]
        covariance = _LEVEL_SD**2 + _OWN_SD**2 * np.exp(-0.5 * distance**2)
        # halfway between guessing and being right, until something is known
        mean = np.full(group.size, float(group.link.forward((1.0 + group.chance) / 2.0)))
        for evidence in direct(group.evidence, self.type):
            asked = np.log(float(parameters_of(evidence.trial)["neighbours"]))
            i = int(np.argmin(np.abs(at - asked)))
            if (value := observed(evidence.result, group.link)) is not None and at[i] == asked:
                gain = covariance[:, i] / (covariance[i, i] + value[1] ** 2)
                mean = mean + gain * (value[0] - mean[i])
                covariance = covariance - np.outer(gain, covariance[i])
        return mean, covariance

    def _examples(self, group: Group) -> float:
        return float(group.task_facts.train_examples) if group.task_facts else 1000.0

    def _index_flops(self, group: Group) -> float:
        return self._examples(group) * float(inference_flops(facts_of(group), count_tokens(group).input))

    def _request_flops(self, group: Group, input_tokens: float | None = None) -> float:
        facts = facts_of(group)
        table = 2.0 * self._examples(group) * (facts.hidden_size or 0)
        return float(inference_flops(facts, count_tokens(group, input_tokens).input)) + table


STRATEGY = NearestNeighbours()
