"""Zero-shot: no configuration but the calibration of the answers, no adaptation, the shortest prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orrery.api.models import Architecture, Model
from orrery.api.task import Task, TaskType
from orrery.costs.flops import Training
from orrery.costs.work import Work
from orrery.laws.posterior import Posterior
from orrery.strategies import shot_curves
from orrery.strategies.base import Group, Kind, ParameterSpec, Proposal, QualityForecast
from orrery.strategies.tokens import count_tokens, request_flops, serving_bytes
from orrery.strategies.trials import attempted, evaluation_size, identity, make_trial

CALIBRATION = ParameterSpec(
    "calibration",
    Kind.CHOICE,
    ("none",),
    "Divide out the answers' probability without a request (contextual calibration, arXiv 2102.09690).",
    choices=("none", "contextual"),
)


@dataclass(frozen=True)
class ZeroShot:
    """Asks the model as it is."""

    type: str = "ZeroShot"
    training: Training | None = None
    parameters: tuple[ParameterSpec, ...] = (CALIBRATION,)

    def refusal(self, model: Model, task: Task) -> str | None:
        """Encoders cannot write; they choose the option whose embedding is nearest."""
        if model.architecture is Architecture.ENCODER and task.type is TaskType.GENERATION:
            return f"model '{model.name}' is an Encoder, which cannot write the answers of a Generation task: use a Causal model"
        return None

    def proposals(self, group: Group) -> Sequence[Proposal]:
        """Each calibration that was not measured, in full: there is nothing cheaper."""
        curves, at = self._curves(group), [0]
        names = [c for _, c in curves]
        trials = [make_trial(group, self.type, {"calibration": c}) for c in names]
        done = attempted(group.evidence)
        open_ = [i for i, t in enumerate(trials) if identity(t) not in done]
        seen = shot_curves.measured(group, curves)
        shifts, medians = shot_curves.what_it_would_tell(group, curves, seen, at, [((i,), 0) for i in open_])
        counts = count_tokens(group)
        flops = float(request_flops(group, counts.input, counts)[0]) * evaluation_size(group)
        column = [names.index(c) for c in group.columns["calibration"]]
        return [Proposal(trials[i], shifts[n][column, 0], 0.0, flops, float(medians[n])) for n, i in enumerate(open_)]

    def forecast(self, group: Group) -> QualityForecast:
        """The measured score with its sampling error, else the prior above chance."""
        curves = self._curves(group)
        names = [c for _, c in curves]
        seen = shot_curves.measured(group, curves)
        post = shot_curves.predict(group, curves, seen, [0])
        column = np.array([names.index(c) for c in group.columns["calibration"]])
        done = {c for m in seen if m.real and m.shots == 0 for c in m.curves}
        quality = Posterior(post.mean[column, 0], post.sd[column, 0], group.link)
        measured = np.array([c in done for c in column], dtype=np.bool_)
        return QualityForecast(quality, measured, shot_curves.remarks(group, seen))

    def work(self, group: Group, input_tokens: float | None, output_tokens: float | None) -> Work:
        """One prompt without demonstrations a request."""
        counts = count_tokens(group, input_tokens, output_tokens)
        prompt, nothing = np.full(group.size, counts.input), np.zeros(group.size)
        return Work(
            adaptation_flops=nothing,
            adaptation_tokens=nothing,
            request_input_tokens=prompt,
            request_output_tokens=np.full(group.size, counts.output),
            request_flops=request_flops(group, prompt, counts),
            adaptation_memory=nothing,
            serving_memory=serving_bytes(group, prompt, counts),
        )

    @staticmethod
    def _curves(group: Group) -> list[shot_curves.Curve]:
        return [("random", c) for c in sorted(set(group.columns["calibration"]))]


STRATEGY = ZeroShot()
