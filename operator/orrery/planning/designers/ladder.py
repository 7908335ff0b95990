"""Candidates as arms with rungs, for designers that compare scores and forecast nothing.

An arm is a configuration on a model, whatever the accelerator; its rungs are its training sizes from the cheapest to the one
it asks for. What trains nothing (zero-shot, in-context learning) has one rung: itself, in full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from math import nan
from statistics import fmean

import numpy as np

from orrery.api.probe import Method
from orrery.planning.decision import sense
from orrery.planning.designers.base import Design
from orrery.planning.designers.scene import Batch, Option, Scene, busy
from orrery.planning.reservation import Purse
from orrery.planning.types import ProbeRequest
from orrery.strategies import early_signals
from orrery.strategies.base import Group
from orrery.strategies.fine_tuning import FineTuning
from orrery.strategies.trials import Identity, evaluation_size, identity, identity_of, make_trial, observed

#: Training examples that stand in until a probe has counted them.
_UNKNOWN_EXAMPLES = 1000
#: Parameter that a rung's size stands for.
_SIZE = "dataPercent"

#: The training sizes below the full one of an arm, ascending, from the plan's fidelities and the full size.
Sizes = Callable[[Sequence[int], int], Sequence[int]]


class State(Enum):
    """What became of a rung."""

    OPEN = "open"
    RUNNING = "running"
    MEASURED = "measured"
    LOST = "lost"  #: tried, and no score came of it


@dataclass(frozen=True)
class Rung:
    """One measurement of an arm."""

    option: Option
    examples: int  #: trained on; 0 where nothing is trained
    state: State
    score: float  #: link scale, more is better, NaN until measured; of a training that was stopped early, of its train loss


@dataclass(frozen=True)
class Arm:
    """A configuration with everything that was measured of it."""

    rungs: tuple[Rung, ...]

    def at(self, rung: int) -> Rung:
        """A rung, or the last one of an arm that has fewer."""
        return self.rungs[min(rung, len(self.rungs) - 1)]

    @property
    def lost(self) -> bool:
        """Whether a rung brought no score: the arm is out."""
        return any(r.state is State.LOST for r in self.rungs)


def plan_sizes(fidelities: Sequence[int], full: int) -> list[int]:
    """The plan's own fidelities.

    >>> plan_sizes([16, 64], 40)
    [16]
    """
    return [f for f in fidelities if f < full]


def arms(scene: Scene, sizes: Sizes = plan_sizes, early: int | None = None) -> list[Arm]:
    """Every arm that nothing rejects, in a random order that the plan's seed decides.

    While nobody knows the data, arms that train have their first rung only: it brings the number of examples. With ``early``
    trainings have two: the first ``early`` percent of the whole one, whose score is the train loss that it came to, negated,
    and the whole.
    """
    found: dict[tuple[str, Identity], Arm] = {}
    sign = sense(scene.spec.task.metric)
    running = {(model, trial.name) for model, _, trial in scene.known.in_flight}
    for g, group in enumerate(scene.space.groups):
        model = group.model.name
        if group.refusal is not None or model in scene.known.lost_models:
            continue
        admitted = np.zeros(group.size, dtype=bool)
        for a in range(len(scene.space.accelerators)):
            admitted |= scene.open[scene.space.rows(g, a)]
        where = scene.accelerator(model, group.plugin.type)
        if where is None or not admitted.any():
            continue
        view = scene.groups.build(g)
        scores: dict[Identity, list[float]] = {}
        for e in view.evidence:
            seen = observed(e.result, view.link)
            scores.setdefault(identity(e.trial), []).extend([] if seen is None else [sign * seen[0]])
        losses = {} if early is None else early_signals.levels(view.evidence, early)
        stops = early if isinstance(group.plugin, FineTuning) and view.task_facts is not None else None
        work = group.plugin.work(view, None, None)
        each = work.request_flops if work.evaluation_flops is None else work.evaluation_flops
        scoring = each * evaluation_size(view)
        for i in np.flatnonzero(admitted).tolist():
            rungs = []
            full = full_size(view, i) if group.plugin.training is not None else 0
            ladder: list[tuple[int, int | None]] = [(0, None)]
            if full:
                cheap = [(n, None) for n in sizes(view.probing.fidelities, full)] if stops is None else [(full, stops)]
                ladder = [*cheap, (full, None)]
            parameters = {k: v[i] for k, v in view.columns.items() if k != _SIZE}
            for n, percent in ladder if view.task_facts is not None else ladder[:1]:
                method = Method.DIRECT if percent is None else Method.EARLY
                trial = make_trial(view, group.plugin.type, parameters, examples=n, method=method, percent=percent)
                share = n / full if full else 0.0
                share = share if percent is None else percent / 100
                training, passes = share * float(work.adaptation_flops[i]), share * float(work.adaptation_pass_flops[i])
                scored = float(scoring[i]) if percent is None else 0.0
                option = scene.option(model, where, trial, scored, training, passes)
                known = scores.get(identity(trial))
                if known is not None and percent is not None:
                    told = losses.get(identity_of(trial.strategy, parameters, n))
                    known = [] if told is None else [-told]
                state = State.OPEN if known is None else State.MEASURED if known else State.LOST
                if (model, trial.name) in running:
                    state = State.RUNNING
                rungs.append(Rung(option, n, state, fmean(known) if known else nan))
            found.setdefault((model, identity(rungs[-1].option.trial)), Arm(tuple(rungs)))
    order = np.random.default_rng(scene.spec.probing.seed).permutation(len(found))
    all_arms = list(found.values())
    return [all_arms[i] for i in order]


def full_size(view: Group, i: int) -> int:
    """Training examples that configuration ``i`` of a strategy that trains asks for."""
    total = view.task_facts.train_examples if view.task_facts is not None else _UNKNOWN_EXAMPLES
    share = int(view.columns[_SIZE][i]) if _SIZE in view.columns else 100
    return max(1, share * total // 100)


def start(
    scene: Scene, purse: Purse, wanted: Iterable[Rung], why: str, settled: str, *, all_of_them: bool = False
) -> Design:
    """Probes for the wanted rungs, in their order: one load a model, further rungs of the model in the same probe.

    A model that is being probed waits for its results. While nobody knows the data, what trains nothing goes first. A probe takes
    further rungs for four loads' time, since first results may say that the rest is not wanted; where all of them are whatever comes
    (``all_of_them``), for half of what its deadline may be.
    """
    half = scene.spec.probing.deadline_seconds / 2
    asked = list({(r.option.model, r.option.trial.name): r for r in wanted}.values())  # arms share their cheap rungs
    if scene.known.task_facts is None and any(not r.examples for r in asked):
        asked = [r for r in asked if not r.examples]
    requests: list[ProbeRequest] = []
    unaffordable, total, wanting = None, 0.0, bool(asked)
    while purse.slots > 0 and purse.probes_left > 0:
        waiting = busy(scene.known, requests)
        first = next((r for r in asked if r.option.model not in waiting), None)
        if first is None:
            break
        batch = Batch(scene, purse, first.option)
        for rung in asked:
            o = rung.option
            same = o.model == batch.model and o.accelerator == batch.accelerator
            spare = half - batch.seconds if all_of_them else batch.spare
            if same and (not batch.options or o.seconds <= spare) and not batch.add(o):
                break
        if not batch.options:
            least = batch.least(first.option)
            unaffordable = least if unaffordable is None else min(unaffordable, least)
            asked.remove(first)  # a cheaper one may fit
            continue
        requests.append(batch.request(why))
        total += batch.seconds
    return Design(requests, wanting, unaffordable, total, settled)
