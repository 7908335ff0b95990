"""ExpectedValue: most points per unit of money, over all strategies at once, until nothing is worth its price.

Greedy in two loops. The outer one starts a probe with the best trial anywhere; the inner one adds trials of the same model
to it while they are worth their marginal price, since a loaded model measures more for no further load. After each trial,
and for each that is running, the expected score is taken as seen (``believer``), so that parallel probes do not ask the same thing
twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from orrery.api.probe import Method, Trial
from orrery.laws.posterior import Array
from orrery.planning import value
from orrery.planning.decision import Decision, sense
from orrery.planning.designers import elsewhere
from orrery.planning.designers.base import Design
from orrery.planning.designers.believer import Believer
from orrery.planning.designers.scene import Batch, Option, Scene, busy
from orrery.planning.forecasts import Columns
from orrery.planning.reservation import Purse
from orrery.planning.types import ProbeRequest
from orrery.strategies import family
from orrery.strategies.base import Proposal
from orrery.strategies.fine_tuning import FineTuning
from orrery.strategies.trials import Identity, identity, identity_of

#: Points that spending as much as the exhaustive search of a plan of the typical size must bring: a probe of one percent of
#: it must bring .8 points.
POINTS_FOR_EXHAUSTIVE = 80.0
#: Candidates of that plan. What a search may reasonably cost grows as the root of their number: a plan of four candidates
#: may measure one of them in full, and one of ten thousand not five hundred.
TYPICAL_CANDIDATES = 40
#: Share of the exhaustive search's work after which points must be twice as many for the same money. The value of a probe
#: is the best of many uncertain gains, so a long search among near equals promises more than it finds. Both constants were
#: chosen on measured grids; what others gave is in docs/decisions/which-probe-next.md.
COMFORTABLE_SHARE = 0.05
#: Below this expected gain nothing is probed, however cheap.
LEAST_POINTS = 0.05
#: Probability that a model's only training failed from which on there is a second, of at most so many times its examples.
DOUBT, SECOND_LOOK = 0.1, 2


@dataclass(frozen=True)
class Valued:
    """An option, what it is worth, and the score to expect of it."""

    option: Option
    worth: value.Worth
    expected_score: float | None

    @property
    def model(self) -> str:
        """Model it runs on."""
        return self.option.model


@dataclass(frozen=True)
class _Assembled:
    """The options of one model, not yet valued, and how far each would move its candidates (options, candidates)."""

    index: NDArray[np.intp]
    shifts: Array
    options: Sequence[Valued]
    #: by option that tells of other models too: its candidates and theirs, and how far it would move them
    wider: Mapping[int, tuple[NDArray[np.intp], Array]]


def _trains(trial: Trial) -> bool:
    return trial.fidelity.method is Method.DIRECT and trial.fidelity.training_examples > 0


@dataclass(frozen=True)
class ExpectedValue:
    """Expected value of information about the decision per unit of money (correlated knowledge gradient)."""

    def design(self, scene: Scene, purse: Purse) -> Design:
        """See ``Designer``; stops when the best trial is not worth its price."""
        return _Search(scene, purse).design()


DESIGNER = ExpectedValue()


@dataclass
class _Search:
    """The choice of one step."""

    scene: Scene
    purse: Purse
    _assembled: dict[tuple[str, int], _Assembled] = field(default_factory=dict)
    _widened: dict[tuple[str, int], _Assembled] = field(default_factory=dict)

    @cached_property
    def _believed(self) -> Believer:
        return Believer(self.scene)

    def design(self) -> Design:
        scene, purse = self.scene, self.purse
        for model, accelerator, trial in scene.known.in_flight:
            self._believed.imagine(model, accelerator, trial, None)
        start: list[ProbeRequest] = []
        first: Valued | None = None
        wanted, unaffordable, total = False, None, 0.0
        closed: set[str] = set()  # models whose next probe does not fit the budget
        while True:
            columns, decision = self._believed.situation()
            options = self._options(columns, decision, self._models - busy(scene.known, start) - closed)
            best = self._best(options)
            if first is None:
                first = best
            pays = best is not None and self._pays(best, load=True)
            doubted = False
            if not pays and (best := self._unseen(options, decision)) is None:
                best, doubted = self._second_look(options), True
            if best is None:
                break
            wanted = True
            if purse.slots < 1 or purse.probes_left < 1:
                break
            opening = self._opening(best, options)
            batch, top = self._batch(opening)
            if not batch.options:
                least = batch.least(opening.option)
                unaffordable = least if unaffordable is None else min(unaffordable, least)
                closed.add(best.model)
                continue
            start.append(batch.request(self._why(best, opening, top, pays, doubted)))
            total += batch.seconds
        left = f" (the best would bring {value.in_points(first.worth.points)})" if first is not None else ""
        return Design(start, wanted, unaffordable, total, f"no further probe is worth its price{left}")

    def _why(self, best: Valued, opening: Valued, top: value.Worth, pays: bool, doubted: bool) -> str:
        """Why a probe is started: that it may change the choice, or else what it is needed for."""
        if doubted:
            return f"the only training of {best.model} may have failed, whatever its configuration is worth"
        if top.change > 0:
            return f"improves the choice with {top.change:.0%} probability, by {value.in_points(top.gain)} on average"
        if not pays:
            why = f"the choice would rest on no measurement of {best.model}"
        elif opening is not best:
            why = "the model as it is comes first, since everything else is read against it"
        else:
            why = f"the choice stays and its forecasts get surer, which is worth {value.in_points(top.clarity)}"
        return f"{why}; brings the task's facts" if self.scene.known.task_facts is None else why

    @cached_property
    def _models(self) -> set[str]:
        """Models that may be asked something."""
        return {g.model.name for g in self.scene.space.groups} - set(self.scene.known.lost_models)

    def _options(self, columns: Columns, decision: Decision, models: set[str]) -> list[Valued]:
        """Every trial that any strategy proposes for these models, with its value over all candidates of its model."""
        scene = self.scene
        stakes = value.stakes(scene.spec.objective, columns, decision, sense(scene.spec.task.metric))
        return [o for model in sorted(models) for o in self._model_options(model, stakes)]

    def _model_options(self, model: str, stakes: value.Stakes) -> list[Valued]:
        found = self._proposed_for(model)
        worths = value.worth(stakes, found.index, found.shifts)
        for i, (index, shift) in found.wider.items():
            worths[i] = value.worth(stakes, index, shift[None])[0]
        return [replace(o, worth=w) for o, w in zip(found.options, worths, strict=True)]

    def _proposed_for(self, model: str) -> _Assembled:
        key = model, len(self._believed.of(model))
        if key not in self._assembled:
            self._assembled[key] = self._assemble(model)
        found = self._assembled[key]
        if not any(self._may_tell(model, o.option.trial) for o in found.options):
            return found
        wider = (
            model,
            sum(len(seen) for seen in self._believed.seen.values()),
        )  # what is seen of one may tell of another
        if wider not in self._widened:
            self._widened[wider] = replace(found, wider=self._wider(model, found))
        return self._widened[wider]

    def _wider(self, model: str, found: _Assembled) -> dict[int, tuple[NDArray[np.intp], Array]]:
        """Of the options that tell of other models too: all candidates they bear on, and how far they would move them."""
        wider = {}
        for i, valued in enumerate(found.options):
            if told := list(self._elsewhere(model, valued.option.trial)):
                candidates, moved = zip((found.index, found.shifts[i]), *told, strict=True)
                wider[i] = np.concatenate(candidates), np.concatenate(moved)
        return wider

    def _may_tell(self, model: str, trial: Trial) -> bool:
        """Whether a trial could tell of other models: a proxy, or one on a model with siblings."""
        if trial.fidelity.method is Method.PROXY:
            return True
        family = self._family(model)
        return family is not None and any(m.family == family and m.name != model for m in self.scene.spec.models)

    def _assemble(self, model: str) -> _Assembled:
        """Merges the proposals of a model's groups by trial: one zero-shot bears on all of them."""
        scene = self.scene
        space = scene.space
        places: list[NDArray[np.intp]] = []
        merged: dict[tuple[Identity, int], tuple[Proposal, dict[int, Array]]] = {}
        for g, group in enumerate(space.groups):
            if group.model.name != model or group.refusal is not None:
                continue
            everyone = np.arange(len(space))
            rows = np.concatenate([everyone[space.rows(g, a)] for a in range(len(space.accelerators))])
            if not scene.open[rows].any():
                continue
            place = len(places)
            places.append(rows)
            for proposal in self._believed.proposals(g):
                kept = merged.setdefault((identity(proposal.trial), proposal.trial.seed), (proposal, {}))
                kept[1][place] = np.tile(proposal.shift, len(space.accelerators))
        blind = scene.known.task_facts is None
        if blind and (self._believed.of(model) or any(not p.training_flops for p, _ in merged.values())):
            # Nobody knows how many training examples there are: what needs none comes first, and brings the number.
            merged = {k: v for k, v in merged.items() if not v[0].training_flops}
        index = np.concatenate(places) if places else np.zeros(0, dtype=np.intp)
        starts = np.cumsum([0, *[len(p) for p in places]])
        options: list[Valued] = []
        shifts = np.zeros((len(merged), len(index)))
        for proposal, parts in merged.values():
            where = scene.accelerator(model, proposal.trial.strategy)
            if where is None:
                continue
            for place, shift in parts.items():
                shifts[len(options), starts[place] : starts[place + 1]] = shift
            option = scene.option(
                model,
                where,
                proposal.trial,
                proposal.inference_flops,
                proposal.training_flops,
                proposal.training_pass_flops,
            )
            options.append(Valued(option, value.Worth(0.0, 0.0, 0.0), proposal.expected_score))
        return _Assembled(index, shifts[: len(options)], options, {})

    def _elsewhere(self, model: str, trial: Trial) -> Iterator[tuple[NDArray[np.intp], Array]]:
        """Candidates of other models that a trial on this one would tell of, and how far it would move them."""
        scene = self.scene
        asked = identity(trial)
        proxy = trial.fidelity.method is Method.PROXY
        for g, group in enumerate(scene.space.groups):
            related = group.model.family is not None and group.model.family == self._family(model)
            if group.model.name == model or group.refusal is not None or not (proxy or related):
                continue
            own = next(
                (
                    p
                    for p in self._believed.proposals(g)
                    if (p.trial.fidelity.method is Method.PROXY if proxy else identity(p.trial) == asked)
                ),
                None,
            )
            if own is None:
                continue
            seen = self._believed.of(group.model.name)
            view = scene.groups.build(g, seen)
            told = (
                elsewhere.of_proxy(view, self._believed.seen)
                if proxy
                else elsewhere.telling(scene, model, group.model, asked, self._believed.seen)
            )
            if told is not None:
                sd = self._believed.posterior(g).sd if seen else scene.columns.quality.sd[scene.space.rows(g, 0)]
                moved = elsewhere.shift(view, sd, own, told)
                for a in range(len(scene.space.accelerators)):
                    yield np.arange(len(scene.space))[scene.space.rows(g, a)], moved

    def _family(self, model: str) -> str | None:
        return next(m.family for m in self.scene.spec.models if m.name == model)

    def _best(self, options: Sequence[Valued]) -> Valued | None:
        """Most points per unit of money, load included."""
        ranked = [o for o in options if o.worth.points > 0]
        return max(ranked, key=lambda o: (self._rate(o, load=True), o.option.trial.name), default=None)

    def _unseen(self, options: Sequence[Valued], decision: Decision) -> Valued | None:
        """A trial of the present choice's model when nothing was measured of it: no answer rests on priors alone.

        A model that smaller siblings of its family were measured for is forecast from them, and need not be loaded.
        """
        favourite = decision.chosen if decision.chosen is not None else decision.nearest
        if favourite is None:
            return None
        model = self.scene.space.groups[self.scene.space.group[favourite]].model.name
        if self.scene.known.evidence.get(model) or self._believed.of(model) or self._told_by_siblings(favourite):
            return None
        return self._best([o for o in options if o.model == model])

    def _second_look(self, options: Sequence[Valued]) -> Valued | None:
        """Another training where the only one of a model may be a failed run: no candidate is given up for one bad seed.

        None that costs more than ``SECOND_LOOK`` times what it checks, and never a third.
        """
        scene = self.scene
        for g, group in enumerate(scene.space.groups):
            name, imagined = group.model.name, self._believed.of(group.model.name)
            trained = [e.trial for e in (*scene.known.evidence.get(name, ()), *imagined) if _trains(e.trial)]
            if len(trained) != 1 or not isinstance(group.plugin, FineTuning):
                continue
            most = SECOND_LOOK * trained[0].fidelity.training_examples
            near = [o for o in options if o.model == name and _trains(o.option.trial)]
            near = [o for o in near if o.option.trial.fidelity.training_examples <= most]
            if near and group.plugin.doubt(scene.groups.build(g, imagined)) >= DOUBT:
                return max(near, key=lambda o: (self._rate(o, load=True), o.option.trial.name))
        return None

    def _told_by_siblings(self, i: int) -> bool:
        """Whether the candidate's very configuration was measured on enough of its model's siblings."""
        g = int(self.scene.space.group[i])
        group = self.scene.space.groups[g]
        if group.plugin.training is not None:
            return False
        asked = identity_of(group.plugin.type, dict(group.configuration(int(self.scene.space.configuration[i]))))
        return asked in family.forecasts(self.scene.groups.build(g), group.plugin.type)

    def _rate(self, o: Valued, *, load: bool) -> float:
        return o.worth.points / self.scene.cost(o.option, load=load)

    def _pays(self, o: Valued, *, load: bool) -> bool:
        """Whether a trial brings more points than its share of the exhaustive search's cost asks for in a plan of this size."""
        scene = self.scene
        candidates = len(scene.space) / len(scene.space.accelerators)
        scale = math.sqrt(candidates / TYPICAL_CANDIDATES)
        share = scene.cost(o.option, load=load) / max(scene.exhaustive_cost, 1e-12) * scale
        asked = POINTS_FOR_EXHAUSTIVE * (1 + (scene.searched * scale / COMFORTABLE_SHARE) ** 2)
        return o.worth.points >= LEAST_POINTS and o.worth.points >= asked * share

    def _batch(self, opening: Valued) -> tuple[Batch, value.Worth]:
        """``opening`` and what else is worth measuring from the same load, as far as the budget reserves."""
        batch, top = Batch(self.scene, self.purse, opening.option), opening.worth
        candidate: Valued | None = opening
        while candidate is not None and batch.add(candidate.option):
            top = max(top, candidate.worth, key=lambda w: w.points)
            self._believed.imagine(batch.model, batch.accelerator, candidate.option.trial, candidate.expected_score)
            if batch.full or not self._proposed_for(batch.model).options:
                break
            left = [
                o
                for o in self._options(*self._believed.situation(), {batch.model})
                if o.option.accelerator == batch.accelerator
                and o.option.seconds <= batch.spare
                and self._pays(o, load=False)
            ]
            candidate = max(left, key=lambda o: (self._rate(o, load=False), o.option.trial.name), default=None)
        return batch, top

    def _opening(self, best: Valued, options: Sequence[Valued]) -> Valued:
        """A model's first trial is the model as it is, where the plan can ask that: everything else is read against it.

        It is cheap, bears on every strategy, and tells whether adapting hurts.
        """
        if self.scene.known.evidence.get(best.model):
            return best
        plain = (o for o in options if o.model == best.model and o.option.trial.strategy == "ZeroShot")
        return next(plain, best)
