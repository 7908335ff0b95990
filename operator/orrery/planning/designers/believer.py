"""Results taken as seen at what is expected of them, and what would be forecast and asked then.

The "believer" of batch Bayesian optimisation (Ginsbourger et al. 2010): trials that run, and those that a batch holds already, count
as measured at their medians, so that what is chosen beside them does not ask the same thing twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from statistics import fmean

import numpy as np

from orrery.api.probe import Outcome, Trial, TrialResult
from orrery.laws.posterior import Link, Posterior
from orrery.planning.decision import Decision, decide
from orrery.planning.designers import elsewhere
from orrery.planning.designers.repeats import repeats
from orrery.planning.designers.scene import Scene
from orrery.planning.forecasts import Columns
from orrery.strategies.base import Evidence, Proposal
from orrery.strategies.trials import identity


@dataclass
class Believer:
    """One step's scene with what is taken as seen. That only ever grows, so its length identifies it in what is remembered."""

    scene: Scene
    seen: dict[str, list[Evidence]] = field(default_factory=dict)  #: results taken as seen, by model
    _posteriors: dict[tuple[int, int], Posterior] = field(default_factory=dict)
    _proposed: dict[tuple[int, int], Sequence[Proposal]] = field(default_factory=dict)

    def of(self, model: str) -> Sequence[Evidence]:
        """What is taken as seen of a model."""
        return self.seen.get(model, ())

    def situation(self) -> tuple[Columns, Decision]:
        """Forecasts and decision as they are expected to be once everything taken as seen is measured."""
        scene = self.scene
        if not self.seen:
            return scene.columns, scene.decision
        mean, sd = scene.columns.quality.mean.copy(), scene.columns.quality.sd.copy()
        for g, group in enumerate(scene.space.groups):
            if self.of(group.model.name) and group.refusal is None:
                post = self.posterior(g)
                for a in range(len(scene.space.accelerators)):
                    rows = scene.space.rows(g, a)
                    mean[rows], sd[rows] = post.mean, post.sd
        columns = replace(scene.columns, quality=Posterior(mean, sd, scene.columns.quality.link))
        return columns, decide(scene.spec.objective, scene.spec.task.metric, columns)

    def posterior(self, g: int) -> Posterior:
        """Qualities of a group as they would be forecast."""
        group = self.scene.space.groups[g]
        more = self.of(group.model.name)
        key = g, len(more)
        if key not in self._posteriors:
            self._posteriors[key] = group.plugin.forecast(self.scene.groups.build(g, more)).posterior
        return self._posteriors[key]

    def proposals(self, g: int) -> Sequence[Proposal]:
        """What a group would ask then: its strategy's proposals, and other seeds of what was measured in full."""
        scene, plugin = self.scene, self.scene.space.groups[g].plugin
        more = self.of(scene.space.groups[g].model.name)
        key = g, len(more)
        if key not in self._proposed:
            view, rows = scene.groups.build(g, more), scene.space.rows(g, 0)
            again = repeats(plugin, view, scene.columns.quality.sd[rows], scene.open[rows])
            self._proposed[key] = [*plugin.proposals(view), *again]
        return self._proposed[key]

    def imagine(self, model: str, accelerator: str, trial: Trial, score: float | None) -> None:
        """Takes a trial's result as seen, at ``score`` or what is expected of it, so that forecasts narrow as they will."""
        if score is None:
            score = self._expected_score(model, trial)
        bounded = self.scene.groups.link is Link.LOGIT
        items = trial.fidelity.evaluation_items
        number = Decimal(repr(round(min(max(score, 0.0), 1.0) if bounded else max(score, 1e-6), 6)))
        result = TrialResult(name=trial.name, outcome=Outcome.MEASURED, score=number, items=items)
        larger = [
            m
            for m in self.scene.spec.models
            if (told := elsewhere.telling(self.scene, model, m, identity(trial), self.seen)) and told.share == 1
        ]
        self.seen.setdefault(model, []).append(Evidence(trial, result, accelerator))
        for m in larger:
            # Taken as seen of the large one too, on as many items as siblings are worth.
            p = self._expected_score(m.name, trial)
            worth = max(1, round(min(items, 1 / (elsewhere.TELLING_SD**2 * max(p * (1 - p), 0.01)))))
            told_result = result.model_copy(update={"score": Decimal(repr(round(p, 6))), "items": worth})
            self.seen.setdefault(m.name, []).append(Evidence(trial, told_result, accelerator))

    def _expected_score(self, model: str, trial: Trial) -> float:
        """Median score of a trial in flight, after what is seen: as under another seed, or as proposed; else a mean."""
        scene = self.scene
        before = [e.result.score for e in scene.known.evidence.get(model, ()) if identity(e.trial) == identity(trial)]
        if any(score is not None for score in before):
            return fmean(float(score) for score in before if score is not None)
        for g, group in enumerate(scene.space.groups):
            if group.model.name == model and group.refusal is None:
                for p in self.proposals(g):
                    if identity(p.trial) == identity(trial) and p.expected_score is not None:
                        return p.expected_score
        rows = [scene.space.rows(g, 0) for g, group in enumerate(scene.space.groups) if group.model.name == model]
        means = np.concatenate([scene.columns.quality.mean[r] for r in rows])
        return float(scene.groups.link.inverse(means.mean()))
