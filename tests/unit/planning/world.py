"""A made-up world with known qualities and speeds, in which a plan can be driven to its end in milliseconds.

Its truths are not drawn from the forecasters' own laws: shot curves are stretched exponentials with an optional dip,
learning curves logistic in log size with an optimum of the learning rate, so that what is learned here is not circular.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import numpy as np

from orrery.api.models import ModelFacts
from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.probe import Method, Outcome, ProbeSpec, Report, TaskFacts, Trial, TrialResult, probe_name
from orrery.costs.accelerators import describe
from orrery.costs.flops import inference_flops, training_flops
from orrery.costs.prices import Prices
from orrery.planning.advance import advance
from orrery.planning.types import Facts, ProbeRecord, ProbeRequest, ProbeState, Step
from orrery.strategies import registry

SMALL = {"parameters": 134_515_008, "layers": 30, "hiddenSize": 576, "heads": 9, "kvHeads": 3, "contextLength": 8192}
ENCODER = {"parameters": 22_713_216, "layers": 6, "hiddenSize": 384, "heads": 12, "kvHeads": 12, "contextLength": 512}


def model(name: str, architecture: str = "Causal", **facts: int) -> dict[str, Any]:
    sizes = (ENCODER if architecture == "Encoder" else SMALL) | facts
    return {"name": name, "architecture": architecture, "source": {"builtin": {"name": name}}, "facts": sizes}


def make_plan(**changes: Any) -> AdaptationPlan:
    """Two models, five kinds of strategies, money in USD; ``changes`` replace whole fields of the spec."""
    spec: dict[str, Any] = {
        "task": {"dataset": {"source": {"builtin": {"name": "intents"}}}},
        "models": [model("small"), model("encoder", "Encoder")],
        "strategies": [
            {"name": "zero-shot", "type": "ZeroShot"},
            {"name": "in-context", "type": "InContext"},
            {"name": "lora", "type": "LoRA"},
        ],
        "workload": {"requestsPerDay": 10_000},
        "objective": {"goal": "MinimizeCost", "minQuality": "0.8"},
        "budget": {"maxProbeCost": "1"},
        "pricing": {"priceListRef": {"name": "prices"}},
        "accelerators": [{"name": "cpu"}],
    }
    return AdaptationPlan.model_validate({"metadata": {"name": "plan"}, "spec": spec | changes})


def make_prices(currency: str = "USD", **per_hour: str) -> PriceList:
    entries = [{"name": n.replace("_", "-"), "pricePerHour": p} for n, p in (per_hour or {"cpu": "0.05"}).items()]
    return PriceList.model_validate(
        {
            "metadata": {"name": "prices"},
            "spec": {
                "currency": currency,
                "source": "made up for tests",
                "date": "2026-01-01",
                "accelerators": entries,
            },
        }
    )


def _unit(*words: object) -> float:
    """A reproducible uniform number for any words."""
    return int(hashlib.sha256(repr(words).encode()).hexdigest()[:12], 16) / 16**12


def _normal(*words: object) -> float:
    return float(np.sqrt(-2 * np.log(_unit(*words, 1) + 1e-12)) * np.cos(2 * np.pi * _unit(*words, 2)))


#: What may happen to an attempt: "ok", "crash", "lie", "partial", "oom", "final" or "slow".
Behaviour = Callable[[ProbeRequest], str]


def always_ok(_: ProbeRequest) -> str:
    return "ok"


@dataclass
class World:
    """Truths by seed. ``quality`` gives the true score of a trial, ``run`` what a probe would report."""

    seed: int = 0
    train: int = 400
    labels: int = 7
    items: int = 200
    behaviour: Behaviour = always_ok
    utilisation: float = 0.5
    lottery: float = 0.0  #: link-scale sd between seeds of a training
    early_luck: float = 0.02  #: sd of the ln of early train losses beside what the final score explains
    unlucky: dict[tuple[int, int], float] = field(default_factory=dict)  #: (training size, seed): what luck adds to it
    overrides: dict[tuple[str, str], float] = field(default_factory=dict)  #: (model, strategy): its best quality

    @property
    def task_facts(self) -> TaskFacts:
        return TaskFacts(
            digest="d" * 64,
            train_examples=self.train,
            evaluation_examples=self.items,
            labels=self.labels,
            chance=Decimal(repr(round(1 / self.labels, 6))),
            input_tokens=Decimal(20),
            example_tokens=Decimal(26),
            output_tokens=Decimal(3),
        )

    def quality(self, name: str, trial: Trial) -> float:
        """True score: of the strategy in this configuration at this size."""
        p = {q.name: q.value for q in trial.parameters}
        start = self._logit(name, "zero", -1.0 + 0.7 * _normal(self.seed, name, "zero"))
        if trial.strategy == "ZeroShot":
            return _share(start)
        if trial.strategy == "InContext":
            return _share(self._shots(name, start, int(p["shots"]), p["retriever"]))
        n = trial.fidelity.training_examples or self.train
        if trial.fidelity.method is Method.PROXY:
            best = {"learningRate": "0.001", "epochs": "1"}
            ahead = 0.3 * _normal(self.seed, name, "proxy")
            return _share(self._tuned(name, "LoRA", start, best, n) + ahead)
        luck = self.lottery * _normal(self.seed, name, sorted(p.items()), n, trial.seed)
        return _share(self._tuned(name, trial.strategy, start, p, n) + luck + self.unlucky.get((n, trial.seed), 0.0))

    def _shots(self, name: str, start: float, k: int, retriever: str) -> float:
        lift = 1.3 + 0.5 * _normal(self.seed, name, "gain") + (0.5 if retriever != "random" else 0.0)
        end = self._logit(name, "InContext", start + lift)
        dip = 0.6 * (_unit(self.seed, name, "dip") > 0.5) * np.exp(-(k - 1) / 1.5)
        rise = 1 - np.exp(-((k / 6) ** 0.9))
        return float(start + (end - start) * rise - dip + 0.08 * _normal(self.seed, name, retriever, k))

    def _tuned(self, name: str, strategy: str, start: float, p: dict[str, str], n: int) -> float:
        top = self._logit(name, strategy, 2.0 + 0.6 * _normal(self.seed, name, "top"))
        middle = np.log(60) + 0.6 * _normal(self.seed, name, "middle")
        rise = 1 / (1 + np.exp(-0.9 * (np.log(n) - middle)))
        best = np.log(1e-3 if strategy != "FullFineTuning" else 5e-5)
        off = (np.log(float(p["learningRate"])) - best + 0.3 * np.log(float(p["epochs"]))) / 2.3
        wrong = 0.5 * off**2 if off < 0 else 1.2 * off**2
        own = 0.1 * _normal(self.seed, name, strategy, sorted(p.items()))
        return float(start + (top - start) * rise * np.exp(-wrong) + own)

    def _logit(self, name: str, what: str, default: float) -> float:
        given = self.overrides.get((name, what))
        return default if given is None else float(np.log(given / (1 - given)))

    def losses(self, name: str, trial: Trial, truth: float) -> tuple[float, float]:
        """Train loss at two early checkpoints: the better the whole training ends, the lower, with a luck of its own."""
        luck = self.early_luck * _normal(self.seed, name, trial.name, "early")
        level = float(np.exp(0.8 - 1.2 * truth + luck))
        return 1.6 * level, level

    def measure(self, spec: ProbeSpec, trial: Trial) -> TrialResult:
        """The trial's score on a sample of items, and the work it took."""
        name = spec.model.name
        items = min(trial.fidelity.evaluation_items, self.items)
        truth = self.quality(name, trial)
        right = int(
            np.random.default_rng([self.seed, *hashlib.sha256(trial.name.encode()).digest()[:8]]).binomial(items, truth)
        )
        facts = spec.model.facts or ModelFacts(parameters=10**9)
        speed = describe_speed(spec.accelerator) * self.utilisation
        p = {q.name: q.value for q in trial.parameters}
        shots = 26.0 * int(p.get("shots", "0"))
        prompt = 20.0 + (shots if p.get("retriever") != "random" else shots / items)  # one prefix for all items
        scoring = float(inference_flops(facts, prompt, 3.0 * self.labels)) * items
        strategy = registry.get(trial.strategy)
        tuning = 0.0
        if trial.fidelity.method is Method.PROXY:
            scoring = float(inference_flops(facts, 20.0)) * (items + trial.fidelity.training_examples)
        elif strategy.training is not None:
            seen = float(p.get("epochs", "1")) * (trial.fidelity.training_examples or self.train)
            tuning = float(training_flops(facts, strategy.training, 23.0, seen))
        if trial.fidelity.schedule_percent is not None:
            tuning *= trial.fidelity.schedule_percent / 100
            return TrialResult(
                name=trial.name,
                outcome=Outcome.MEASURED,
                train_seconds=_text(tuning / speed),
                train_flops=_text(tuning),
                train_loss=[_text(loss) for loss in self.losses(name, trial, truth)],
            )
        return TrialResult(
            name=trial.name,
            outcome=Outcome.MEASURED,
            score=Decimal(right) / Decimal(items),
            items=items,
            train_seconds=_text(tuning / speed) if tuning else None,
            evaluation_seconds=_text(scoring / speed),
            train_flops=_text(tuning) if tuning else None,
            evaluation_flops=_text(scoring),
        )

    def run(self, request: ProbeRequest, price_per_second: Decimal) -> tuple[ProbeRecord, float]:
        """The record an attempt leaves, and how long it ran."""
        spec, how = request.spec, self.behaviour(request)
        results = [self.measure(spec, t) for t in spec.trials]
        load = 4.0
        seconds = load + sum(float(r.train_seconds or 0) + float(r.evaluation_seconds or 0) + 0.5 for r in results)
        state, reason, retryable, error = ProbeState.SUCCEEDED, "", True, None
        report: Report | None = self.report(spec, results, load, seconds)
        if how == "slow" or seconds > spec.deadline_seconds:
            seconds, how = float(spec.deadline_seconds), "slow"
            state, reason, retryable, report = ProbeState.FAILED, "DeadlineExceeded", False, None
        elif how == "crash":
            state, reason, report = ProbeState.FAILED, "Error", None
        elif how == "final":
            state, reason, retryable, report = ProbeState.FAILED, "ModelNotFound", False, None
            error = "no such model"
        elif how == "oom":
            state, reason, retryable, report = ProbeState.FAILED, "OutOfMemory", False, None
        elif how == "partial":
            state, reason = ProbeState.FAILED, "Error"
            report = self.report(spec, results[: len(results) // 2], load, seconds, complete=False)
        elif how == "lie" and report is not None:
            report = report.model_copy(update={"probe": "probe-0000000000000000"})
        record = ProbeRecord(
            name=request.name,
            spec=spec,
            state=state,
            attempts=request.attempt,
            cost=(Decimal(repr(seconds)) * price_per_second).quantize(Decimal("0.000001")),
            reserved=Decimal(0),
            seconds=seconds,
            report=report,
            retryable=retryable,
            reason=reason,
            message=error or "",
        )
        return record, seconds

    def report(
        self, spec: ProbeSpec, results: Sequence[TrialResult], load: float, seconds: float, complete: bool = True
    ) -> Report:
        return Report(
            probe=probe_name(spec),
            complete=complete,
            load_seconds=_text(load),
            total_seconds=_text(seconds),
            model_facts=None if spec.model.facts is None else {"parameters": spec.model.facts.parameters},
            task_facts=self.task_facts,
            trials=list(results),
        )


@dataclass
class Run:
    """A plan driven to its end."""

    steps: list[Step]
    records: list[ProbeRecord]
    highest: Decimal  #: most that was ever spent and reserved together
    attempts: int

    @property
    def last(self) -> Step:
        return self.steps[-1]

    @property
    def spent(self) -> Decimal:
        return sum((r.cost for r in self.records), Decimal(0))


def drive(
    plan: AdaptationPlan,
    prices: PriceList,
    world: World,
    *,
    facts: Facts | None = None,
    records: Sequence[ProbeRecord] = (),
    most_steps: int = 400,
) -> Run:
    """Runs what each step starts, one ending at a time, until the plan is finished; fails when it never is."""
    table = {a.name: Prices(prices).per_second(a) for a in plan.spec.accelerators}
    done = {r.name: r for r in records}
    flying: dict[str, tuple[float, ProbeRecord]] = {}
    clock, highest, attempts = 0.0, Decimal(0), 0
    steps: list[Step] = []
    for _ in range(most_steps):
        step = advance(plan, [*(done | {n: r for n, (_, r) in flying.items()}).values()], prices, facts)
        steps.append(step)
        for request in step.start:
            assert request.name not in flying, "a running probe was started again"
            before = done.get(request.name)
            assert request.attempt == (before.attempts + 1 if before else 1)
            after, seconds = world.run(request, table[request.spec.accelerator])
            paid = before.cost if before else Decimal(0)
            running = replace(
                after, state=ProbeState.RUNNING, cost=paid, reserved=request.reservation, report=None, reason=""
            )
            spent_before = before.seconds if before else 0.0
            flying[request.name] = (clock + seconds, running)
            done.pop(request.name, None)
            world_end[request.name] = replace(after, cost=paid + after.cost, seconds=spent_before + after.seconds)
            attempts += 1
        total = sum((r.cost for r in done.values()), Decimal(0))
        total += sum((r.cost + r.reserved for _, r in flying.values()), Decimal(0))
        highest = max(highest, total)
        if not flying:
            if step.finished:
                return Run(steps, list(done.values()), highest, attempts)
            assert step.start, f"nothing runs, nothing starts, and the plan is not finished: {step.reason}"
        assert len(flying) <= plan.spec.probing.parallelism
        name = min(flying, key=lambda n: (flying[n][0], n))
        clock = flying.pop(name)[0]
        done[name] = world_end.pop(name)
    raise AssertionError(f"the plan did not end within {most_steps} steps: {steps[-1].reason}")


world_end: dict[str, ProbeRecord] = {}


def describe_speed(accelerator: str) -> float:
    """Peak FLOP/s of one accelerator by name."""
    from orrery.api.machines import Accelerator

    return describe(Accelerator(name=accelerator)).peak_flops


def _share(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


def _text(value: float) -> Decimal:
    return Decimal(f"{value:.6g}")
