"""What the strategies that train weights have in common; they differ in what is trained and in their grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from orrery.api.models import Architecture, Model, ModelFacts, Precision
from orrery.api.probe import Method
from orrery.api.task import Task, TaskType
from orrery.costs.flops import Training, inference_flops, training_flops
from orrery.costs.memory import adapter_parameters, process_memory, training_memory
from orrery.costs.throughput import counted_passes
from orrery.costs.work import Work
from orrery.laws.curve_laws import NEEDS_KERNEL, SHARES_STRENGTH, curve_law
from orrery.laws.ntk import gap_of_modes
from orrery.laws.posterior import Array, Link, Posterior
from orrery.strategies import early_signals, family, peers, registry
from orrery.strategies.base import Evidence, Group, Kind, ParameterSpec, Proposal, QualityForecast
from orrery.strategies.law_curves import FineTunedCurves, LawCurves, Relatives
from orrery.strategies.shot_curves import ZERO_SHOT
from orrery.strategies.tokens import TokenCounts, count_tokens, facts_of, request_flops, serving_bytes
from orrery.strategies.trials import (
    Identity,
    attempted,
    direct,
    evaluation_size,
    identity,
    identity_of,
    make_trial,
    measured_by,
    observed,
    parameters_of,
)
from orrery.strategies.tuning_curves import Points, TuningCurves, passes, update_steps

BATCH_SIZE = 16
#: Training examples that stand in until a probe has counted them.
_UNKNOWN_EXAMPLES = 1000
#: Proposals of one group: more would not be told apart, and each costs a pass over all configurations.
_MOST_PROPOSALS = 64
#: The predictor that joins the laws with all that bears on them; any other name is that of a learning-curve law.
ENSEMBLE = "Ensemble"
#: Examples a kernel probe samples at most, and what is expected of it, as a share of each forecast's sd; by assumption.
KERNEL_SAMPLE, _KERNEL_TELLS = 32, 0.2
#: A remark is made when the best configuration is this likely to be worse than the model as it is.
_LIKELY = 0.5

LEARNING_RATE_BOUNDS = (Decimal("1e-7"), Decimal(1))
EPOCHS = ParameterSpec(
    "epochs", Kind.INTEGER, ("1", "3"), "Passes over the training examples.", minimum=Decimal(1), maximum=Decimal(100)
)
DATA_PERCENT = ParameterSpec(
    "dataPercent",
    Kind.INTEGER,
    ("100",),
    "Share of the training split that is trained on, in percent.",
    minimum=Decimal(1),
    maximum=Decimal(100),
)
RANK = ParameterSpec("rank", Kind.INTEGER, ("8",), "Rank of the adapters.", minimum=Decimal(1), maximum=Decimal(1024))


def learning_rate(*default: str) -> ParameterSpec:
    """The learning-rate axis with a kind of training's usual values."""
    low, high = LEARNING_RATE_BOUNDS
    return ParameterSpec("learningRate", Kind.DECIMAL, default, "Peak learning rate.", minimum=low, maximum=high)


@dataclass(frozen=True)
class FineTuning:
    """A strategy that trains weights: its name, what is trained, its axes, and where its learning rates work."""

    type: str
    training: Training
    parameters: tuple[ParameterSpec, ...]
    harmful_rate: float  #: learning rate that usually begins to do harm: the scale on which kinds are compared

    def refusal(self, model: Model, task: Task) -> str | None:
        """Encoders cannot write free text; weights of eight or four bits are not trained."""
        if model.precision in (Precision.INT8, Precision.INT4):
            return (
                f"model '{model.name}' has precision {model.precision}, and {self.type} trains 16-bit weights: "
                "list the model once more without precision (QLoRA quantises by itself)"
            )
        if model.architecture is Architecture.ENCODER and task.type is not TaskType.CLASSIFICATION:
            return f"model '{model.name}' is an Encoder, whose head answers Classification tasks only, not {task.type}"
        return None

    def proposals(self, group: Group) -> Sequence[Proposal]:
        """Configurations at the plan's fidelities and at the size each asks; cheap ones first.

        No rung is proposed at or above the size a configuration asks: that would cost more and say less.
        """
        if not group.size:
            return []
        curves, targets, full = self.curves(group), self.points(group), self.full_sizes(group)
        asked: dict[Identity, tuple[int, dict[str, str]]] = {}
        for i in range(group.size):
            parameters = self._trained_parameters(group.columns, i)
            for n in (*[f for f in group.probing.fidelities if f < full[i]], int(full[i])):
                asked.setdefault(identity_of(self.type, parameters, n), (n, parameters))
        done = attempted(group.evidence)
        open_ = [value for key, value in asked.items() if key not in done]
        if len(open_) > _MOST_PROPOSALS:
            # Evenly over sizes and configurations, so that no region is out of reach.
            keep = np.unique(np.linspace(0, len(open_) - 1, _MOST_PROPOSALS).astype(int))
            open_ = [open_[j] for j in keep]
        open_.sort(key=lambda o: (o[0], sorted(o[1].items())))
        points = points_of([(self, p, float(n)) for n, p in open_], early_signals.signals(group.evidence))
        mean, _ = curves.predict(points) if open_ else (np.zeros(0), None)
        items = evaluation_size(group)
        shifts, mean = curves.tell(targets, points, sampling_sd(group, mean, items))
        medians = group.link.inverse(mean)
        counts = count_tokens(group)
        scoring = float(request_flops(group, counts.input, counts)[0]) * items
        proposals = [
            Proposal(
                make_trial(group, self.type, p, examples=n),
                shifts[j],
                self.training_flops(group, p, n),
                scoring,
                float(medians[j]),
                self._pass_flops(group, p, n),
            )
            for j, (n, p) in enumerate(open_)
        ]
        if isinstance(curves, TuningCurves):
            return [*self._proxy(group, curves, targets, int(full.max()), done), *proposals]
        return [*self._kernel(group, curves, targets, int(full.max()), done), *proposals]

    def _kernel(
        self, group: Group, curves: FineTunedCurves, targets: Points, examples: int, done: set[Identity]
    ) -> list[Proposal]:
        """The tangent kernel of the untuned model, for the law that reads it: one backward pass over a small sample."""
        parameters = self._trained_parameters(group.columns, 0)
        trial = make_trial(group, self.type, parameters, examples=examples, method=Method.KERNEL)
        measured = any(e.trial.fidelity.method is Method.KERNEL for e in group.evidence)
        if group.probing.predictor not in NEEDS_KERNEL or measured or identity(trial) in done:
            return []
        mean, sd = curves.predict(targets)
        sample = self.training_flops(group, {"epochs": "1"}, KERNEL_SAMPLE)
        median = float(group.link.inverse(mean.mean()))
        return [Proposal(trial, _KERNEL_TELLS * sd, sample, sample, median)]

    def _proxy(
        self, group: Group, curves: FineTunedCurves, targets: Points, examples: int, done: set[Identity]
    ) -> list[Proposal]:
        """A light head on the frozen features of all examples: one pass over the data, no training.

        Asked for one configuration of one strategy, since heads hardly differ between them, and only on as many examples as
        the group ever trains on: on fewer, a head runs ahead of the model it stands in for.
        """
        if group.task.type is not TaskType.CLASSIFICATION or group.task_facts is None:
            return []
        longest = max(range(group.size), key=lambda i: (float(group.columns.get("epochs", ["1"] * group.size)[i]), -i))
        parameters = self._trained_parameters(group.columns, longest)
        trial = make_trial(group, self.type, parameters, examples=examples, method=Method.PROXY)
        told = any(
            e.trial.fidelity.method is Method.PROXY
            and e.trial.fidelity.training_examples >= examples
            and observed(e.result, group.link) is not None
            for e in group.evidence
        )
        if told or identity(trial) in done:
            return []
        point = points_of([(None, parameters, float(examples))])
        items = evaluation_size(group)
        mean, _ = curves.predict(point)
        shifts, mean = curves.tell(targets, point, sampling_sd(group, mean, items))
        one = float(request_flops(group, count_tokens(group).input, TokenCounts(0.0, 0.0, 0.0, 0.0))[0])
        median = float(group.link.inverse(mean)[0])
        return [Proposal(trial, shifts[0], 0.0, one * (examples + items), median)]

    def forecast(self, group: Group) -> QualityForecast:
        """The learning curve's law joined with the configurations' effects, at the size each configuration asks."""
        if not group.size:
            return QualityForecast(Posterior(np.zeros(0), np.zeros(0), group.link), np.zeros(0, dtype=np.bool_))
        curves, targets, full = self.curves(group), self.points(group), self.full_sizes(group)
        done = {identity(e.trial) for e in direct(group.evidence, self.type)}
        measured = np.zeros(group.size, dtype=np.bool_)
        if done:
            rows = (self._trained_parameters(group.columns, i) for i in range(group.size))
            measured[:] = [identity_of(self.type, p, int(n)) in done for p, n in zip(rows, full, strict=True)]
        mean, sd, hurts = curves.outlook(targets)
        known = bool(done or self._zero_shot(group))
        worse = hurts[int(np.argmax(curves.sign * mean))]
        remarks = []
        if known and worse > _LIKELY:
            remarks.append(
                f"{self.type} likely hurts: even its best configuration falls below the untuned model "
                f"with probability {worse:.0%}"
            )
        return QualityForecast(Posterior(mean, sd, group.link), measured, remarks, hurts if known else None)

    def doubt(self, group: Group) -> float:
        """Probability that one of the trainings that were measured on the model is a failed run, and says nothing."""
        curves = self.curves(group)
        return curves.doubt if isinstance(curves, TuningCurves) else 0.0

    def work(self, group: Group, input_tokens: float | None, output_tokens: float | None) -> Work:
        """Training once, then prompts without demonstrations; adapters are merged before serving."""
        counts, dataset = count_tokens(group, input_tokens, output_tokens), count_tokens(group)
        facts = facts_of(group)
        length = dataset.input + dataset.output
        sizes = self.full_sizes(group)
        epochs = self._numbers(group, "epochs", 1.0)
        examples, steps = sizes * passes(sizes, epochs), update_steps(sizes, epochs)
        prompt = np.full(group.size, counts.input)
        if self.training is Training.FULL:
            trained: Array = np.full(group.size, float(facts.parameters))
        else:
            trained = adapter_parameters(facts, self._numbers(group, "rank", 8.0))
        memory = training_memory(facts, self.training, trained, BATCH_SIZE, length)
        return Work(
            adaptation_flops=self._flops(group, sizes, epochs),
            adaptation_tokens=examples * length,
            request_input_tokens=prompt,
            request_output_tokens=np.full(group.size, counts.output),
            request_flops=request_flops(group, prompt, counts),
            adaptation_memory=np.broadcast_to(memory, (group.size,)),
            process_memory=process_memory(facts, self.training, trained, np.ceil(examples / steps), length),
            pass_flops=self._passed(group, sizes, epochs),
            serving_memory=serving_bytes(group, prompt, counts),
        )

    def points(self, group: Group) -> Points:
        """The group's configurations, at the sizes they ask."""
        full = self.full_sizes(group)
        return self.points_of(group, [(self._trained_parameters(group.columns, i), full[i]) for i in range(group.size)])

    def points_of(self, group: Group, configurations: Sequence[tuple[Mapping[str, str], float]]) -> Points:
        """Configurations of the group's model by their parameters, each on a number of examples."""
        told = early_signals.signals(group.evidence)
        return points_of([(self, parameters, n) for parameters, n in configurations], told)

    def curves(self, group: Group) -> FineTunedCurves:
        """The joint distribution of scores, given everything that was trained on this model, by the plan's predictor."""
        named = group.probing.predictor != ENSEMBLE
        asked, seen = _trained(group.evidence, group.link, proxies=not named)
        prior = peers.prior(group)
        if not named and (told := peers.reading(group)) is not None:
            asked.append((None, *told[0]))
            seen.append(told[1])
        points = points_of(asked, early_signals.signals(group.evidence))
        values, noise = np.array([v for v, _ in seen]), np.array([sd for _, sd in seen])
        measured = self._zero_shot(group), points, values, noise, group.link, group.chance
        if named:
            builtin = group.task.dataset.source.builtin
            law = curve_law(group.probing.predictor, task=None if builtin is None else builtin.name)
            worth = _worth(group, self.harmful_rate) if group.probing.predictor in NEEDS_KERNEL else None
            relatives = _relatives(group) if group.probing.predictor in SHARES_STRENGTH else None
            return LawCurves(law, *measured, worth=worth, relatives=relatives)
        fitted_head = group.model.architecture is Architecture.ENCODER
        return TuningCurves(fitted_head, *measured, seed=group.probing.seed, prior=prior)

    @staticmethod
    def _zero_shot(group: Group) -> tuple[float, float] | None:
        for e in direct(group.evidence, ZERO_SHOT):
            if parameters_of(e.trial).get("calibration", "none") == "none":
                return observed(e.result, group.link)
        told = family.forecasts(group, ZERO_SHOT)
        return next((v for k, v in sorted(told.items()) if ("calibration", "none") in k[1]), None)

    @staticmethod
    def _trained_parameters(columns: Mapping[str, Sequence[str]], i: int) -> dict[str, str]:
        """Parameters of configuration i without the share of the data, which the fidelity's size stands for."""
        return {name: column[i] for name, column in columns.items() if name != "dataPercent"}

    @staticmethod
    def _numbers(group: Group, name: str, default: float) -> Array:
        column = group.columns.get(name)
        return np.full(group.size, default) if column is None else np.array([float(v) for v in column])

    def full_sizes(self, group: Group) -> Array:
        """Training examples each configuration asks, (n,)."""
        total = group.task_facts.train_examples if group.task_facts else _UNKNOWN_EXAMPLES
        return np.maximum(np.floor(self._numbers(group, "dataPercent", 100.0) * total / 100.0), 1.0)

    def _pass_flops(self, group: Group, parameters: Mapping[str, str], examples: int) -> float:
        """What the passes of training one configuration on ``examples`` cost beside their FLOPs."""
        epochs = np.array([float(parameters.get("epochs", 1.0))])
        return float(self._passed(group, np.array([float(examples)]), epochs)[0])

    def training_flops(self, group: Group, parameters: Mapping[str, str], examples: int) -> float:
        """FLOPs of training one configuration on ``examples`` of the group's task."""
        epochs = np.array([float(parameters.get("epochs", 1.0))])
        return float(self._flops(group, np.array([float(examples)]), epochs)[0])

    def _flops(self, group: Group, sizes: Array, epochs: Array) -> Array:
        """FLOPs of trainings on so many examples each; an encoder reads them once more, to fit the head that it starts from."""
        counts, facts = count_tokens(group), facts_of(group)
        encoder = group.model.architecture is Architecture.ENCODER
        length = counts.input + counts.output
        fitting = sizes * inference_flops(facts, length) if encoder else 0.0
        return np.asarray(training_flops(facts, self.training, length, sizes * passes(sizes, epochs)) + fitting)

    def _passed(self, group: Group, sizes: Array, epochs: Array) -> Array:
        """One token's FLOPs times the counted passes of trainings on so many examples each."""
        counts, facts = count_tokens(group), facts_of(group)
        tokens = sizes * passes(sizes, epochs) * (counts.input + counts.output)
        counted = counted_passes(facts, self.training, update_steps(sizes, epochs), tokens)
        return np.asarray(training_flops(facts, self.training, 1.0, 1.0) * counted)


def _worth(group: Group, harmful_rate: float) -> Callable[[Points], Array] | None:
    """F of LENSLLM for configurations, from the measured kernel: what learning rate x steps in the kernel regime leave."""
    modes = next(
        (
            np.array([float(v) for v in e.result.kernel])
            for e in group.evidence
            if e.trial.fidelity.method is Method.KERNEL and len(e.result.kernel) >= 2
        ),
        None,
    )
    if modes is None:
        return None
    half = len(modes) // 2
    values, powers = modes[:half], modes[half : 2 * half]

    def worth(points: Points) -> Array:
        rate = harmful_rate * np.exp(points.learning_rate)
        return gap_of_modes(values, powers, rate * update_steps(np.exp(points.examples), np.exp(points.epochs)))

    return worth


def sampling_sd(group: Group, mean: Array, items: int) -> Array:
    """Link-scale standard error of a score of link-scale ``mean`` on ``items`` items."""
    if group.link is Link.LOGIT:
        p = group.link.inverse(mean)
        return np.asarray(1 / np.sqrt(items * p * (1 - p) + 0.5))
    return np.full_like(mean, 0.03)


_Asked = list[tuple[FineTuning | None, Mapping[str, str], float]]


def _trained(evidence: Sequence[Evidence], link: Link, *, proxies: bool) -> tuple[_Asked, list[tuple[float, float]]]:
    """What was trained, by any strategy of this family and by heads on frozen features, and its scores with their errors."""
    asked: _Asked = []
    seen: list[tuple[float, float]] = []
    types = sorted({e.trial.strategy for e in evidence} & set(registry.installed()))
    for strategy in (s for s in map(registry.get, types) if isinstance(s, FineTuning)):
        for method in (Method.DIRECT, Method.PROXY) if proxies else (Method.DIRECT,):
            for e in measured_by(evidence, strategy.type, method):
                score = observed(e.result, link)
                if score is not None:
                    kind = strategy if method is Method.DIRECT else None
                    asked.append((kind, parameters_of(e.trial), float(e.trial.fidelity.training_examples)))
                    seen.append(score)
    return asked, seen


def _relatives(group: Group) -> Relatives | None:
    """What was trained on the plan's other models; a model without a family is one of its own."""
    asked: _Asked = []
    seen: list[tuple[float, float]] = []
    of: list[tuple[float, str]] = []
    for peer in group.peers:
        more, scores = _trained(peer.evidence, group.link, proxies=False)
        asked, seen = asked + more, seen + scores
        of += [_whose(peer.model, peer.facts)] * len(more)
    if not asked:
        return None
    values, noise = np.array(seen).T
    own = _whose(group.model, group.facts)
    return Relatives(points_of(asked), values, noise, np.array([p for p, _ in of]), [f for _, f in of], own)


def _whose(model: Model, facts: ModelFacts | None) -> tuple[float, str]:
    known = facts or model.facts
    return float(known.parameters) if known else np.nan, model.family or model.name


def points_of(
    asked: Sequence[tuple[FineTuning | None, Mapping[str, str], float]], signals: Mapping[Identity, float] | None = None
) -> Points:
    """Configurations of any of the family's strategies, at training sizes; without a strategy, of the proxy.

    ``signals`` are what the first steps of some of them told.
    """

    def column(name: str, default: float) -> list[float]:
        return [float(p.get(name, default)) for _, p, _ in asked]

    # A proxy has no learning rate of its own: it stands at the usual one.
    rates = [float(p.get("learningRate", s.harmful_rate / 10)) / s.harmful_rate if s else 0.1 for s, p, _ in asked]
    kinds = [s.training if s else None for s, _, _ in asked]
    told = [signals.get(identity_of(s.type, p, int(n)), 0.0) if s else 0.0 for s, p, n in asked] if signals else None
    return Points.of(kinds, rates, column("epochs", 1.0), column("rank", 8.0), [n for _, _, n in asked], told)
