"""In-context learning: quality over shots for each retriever, and prompts that every request pays for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from orrery.api.models import Architecture, Model
from orrery.api.task import Task
from orrery.costs.flops import Training
from orrery.costs.work import Work
from orrery.laws.posterior import Array, Posterior
from orrery.strategies import shot_curves
from orrery.strategies.base import Group, Kind, ParameterSpec, Proposal, QualityForecast
from orrery.strategies.tokens import TokenCounts, count_tokens, request_flops, serving_bytes
from orrery.strategies.trials import attempted, evaluation_size, identity, make_trial
from orrery.strategies.zero_shot.forecast import CALIBRATION

#: Requests without content that contextual calibration asks beside the real one (arXiv 2102.09690, section 5).
_CONTENT_FREE = 3.0


def shots(about: str, *default: str) -> ParameterSpec:
    """The parameter ``shots``."""
    return ParameterSpec("shots", Kind.INTEGER, default, about, minimum=Decimal(1), maximum=Decimal(1024))


def retriever(by: str, *choices: str) -> ParameterSpec:
    """The parameter ``retriever``; random and bm25 by default."""
    about = f"How demonstrations are chosen: once at random, or for each request by {by}."
    return ParameterSpec("retriever", Kind.CHOICE, ("random", "bm25"), about, choices=choices)


@dataclass(frozen=True)
class InContext:
    """Puts solved examples before the request."""

    type: str = "InContext"
    training: Training | None = None
    parameters: tuple[ParameterSpec, ...] = (
        shots("Demonstrations in the prompt.", "1", "2", "4", "8", "16", "32"),
        retriever("words (bm25) or embeddings (dense)", "random", "bm25", "dense"),
        CALIBRATION,
    )

    def refusal(self, model: Model, task: Task) -> str | None:
        """Encoders do not read demonstrations."""
        if model.architecture is Architecture.ENCODER:
            return (
                f"model '{model.name}' is an Encoder, which does not learn from demonstrations: "
                "use LoRA or FullFineTuning with it"
            )
        return None

    def proposals(self, group: Group) -> Sequence[Proposal]:
        """Zero-shot of each calibration (the start of the curves) and every configuration that was not measured."""
        curves, at, row, column = self._layout(group)
        counts, items = count_tokens(group), evaluation_size(group)
        trials, asked, prompts = [], [], []
        for calibration in sorted({c for _, c in curves}):
            own = tuple(i for i, c in enumerate(curves) if c[1] == calibration)
            trials.append(make_trial(group, shot_curves.ZERO_SHOT, {"calibration": calibration}))
            asked.append((own, 0))
            prompts.append(counts.input)
        for i, k in sorted({(int(r), int(c)) for r, c in zip(row, column, strict=True)}):
            retriever, calibration = curves[i]
            parameters = {"shots": str(at[k]), "retriever": retriever, "calibration": calibration}
            trials.append(make_trial(group, self.type, parameters))
            asked.append(((i,), at[k]))
            prompts.append(self._evaluated_tokens(counts, at[k], retriever, calibration, items))
        done = attempted(group.evidence)
        open_ = [n for n, t in enumerate(trials) if identity(t) not in done]
        seen = shot_curves.measured(group, curves)
        shifts, medians = shot_curves.what_it_would_tell(group, curves, seen, at, [asked[n] for n in open_])
        return [
            Proposal(
                trials[n],
                shifts[j][row, column],
                0.0,
                float(request_flops(group, prompts[n], counts)[0]) * items,
                float(medians[j]),
            )
            for j, n in enumerate(open_)
        ]

    def forecast(self, group: Group) -> QualityForecast:
        """The shots law, from whatever was measured of its curves."""
        curves, at, row, column = self._layout(group)
        seen = shot_curves.measured(group, curves)
        post = shot_curves.predict(group, curves, seen, at)
        done = {(c, m.shots) for m in seen if m.real for c in m.curves}
        measured = np.array([(r, at[c]) in done for r, c in zip(row, column, strict=True)], dtype=np.bool_)
        quality = Posterior(post.mean[row, column], post.sd[row, column], group.link)
        hurts = shot_curves.probability_hurts(group, curves, seen, at) if seen else None
        worse = None if hurts is None else hurts[row, column]
        return QualityForecast(quality, measured, shot_curves.remarks(group, seen), worse)

    def work(self, group: Group, input_tokens: float | None, output_tokens: float | None) -> Work:
        """Prompts grow with the demonstrations; nothing is trained."""
        counts = count_tokens(group, input_tokens, output_tokens)
        shots = np.array([float(v) for v in group.columns["shots"]])
        prompt, nothing = counts.input + shots * counts.example, np.zeros(group.size)
        calibrated = np.array(
            [
                _CONTENT_FREE * counts.scored if c == "contextual" and r != "random" else 0.0
                for r, c in zip(group.columns["retriever"], group.columns["calibration"], strict=True)
            ]
        )
        measured = count_tokens(group)
        scored = [
            self._evaluated_tokens(measured, int(k), r, c, evaluation_size(group))
            for k, r, c in zip(*(group.columns[n] for n in ("shots", "retriever", "calibration")), strict=True)
        ]
        return Work(
            adaptation_flops=nothing,
            adaptation_tokens=nothing,
            request_input_tokens=prompt,
            request_output_tokens=np.full(group.size, counts.output),
            request_flops=request_flops(group, prompt + calibrated, counts),
            adaptation_memory=nothing,
            serving_memory=serving_bytes(group, prompt, counts),
            # demonstrations that were drawn once begin every prompt alike
            request_shared_tokens=np.where(
                np.array(group.columns["retriever"]) == "random", shots * counts.example, 0.0
            ),
            evaluation_flops=request_flops(group, np.array(scored), measured),
        )

    @staticmethod
    def _evaluated_tokens(counts: TokenCounts, shots: int, retriever: str, calibration: str, items: int) -> float:
        """Prompt tokens computed per item: random demonstrations are one prefix for all items, retrieved ones are not.

        Retrieved demonstrations are calibrated anew for every item, with each of the content-free requests.
        """
        demonstrations = shots * counts.example
        if retriever == "random":
            return counts.input + demonstrations / items
        calibrated = _CONTENT_FREE * counts.scored if calibration == "contextual" else 0.0
        return counts.input + demonstrations + calibrated

    @staticmethod
    def _layout(group: Group) -> tuple[list[shot_curves.Curve], list[int], Array, Array]:
        """Curves, distinct shots, and for each configuration its curve and its place among the shots."""
        ways = list(zip(group.columns["retriever"], group.columns["calibration"], strict=True))
        shots = [int(v) for v in group.columns["shots"]]
        curves, at = sorted(set(ways)), sorted(set(shots))
        place, order = {c: i for i, c in enumerate(curves)}, {k: i for i, k in enumerate(at)}
        return curves, at, np.array([place[w] for w in ways]), np.array([order[k] for k in shots])


STRATEGY = InContext()
