"""Fine-tune for real, at the trial's size, and score the result: what every strategy that trains weights shares."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import nn

from orrery.api.models import Architecture
from orrery.api.probe import Trial, TrialResult
from orrery.api.task import TaskType
from orrery.costs.flops import Training, inference_flops, training_flops
from orrery.probes.evaluation import Evaluation, evaluate
from orrery.probes.finetune import adapters, causal, encoder
from orrery.probes.finetune.answers import judge
from orrery.probes.finetune.loop import LOSS_POINTS, Losses, MasterAdamW, batches, fit
from orrery.probes.finetune.settings import Settings, parse_settings
from orrery.probes.finetune.subset import nested_order
from orrery.probes.likelihood import Meter
from orrery.probes.parameters import evaluation_items
from orrery.probes.report import number
from orrery.probes.session import Example, LoadedModel, Session, Unsupported

#: Longest training sequence; what is beyond loses the beginning of its prompt.
MAX_TOKENS = 1024
#: An encoder's head starts fitted and is small: it moves at this multiple of the features' learning rate.
HEAD_RATE = 10.0


@dataclass(frozen=True)
class Kind:
    """What is trained, and the learning rate when a trial names none."""

    training: Training
    learning_rate: str


LORA = Kind(Training.ADAPTER, "1e-3")
QLORA = Kind(Training.QUANTIZED_ADAPTER, "1e-3")
FULL = Kind(Training.FULL, "1e-4")


@dataclass
class Trained:
    """A tuned model, and what tuning it took."""

    model: LoadedModel  #: its module is tuned until the context ends
    examples: list[Example]  #: what was trained on
    losses: Losses
    seconds: float
    tokens: int  #: real tokens that went through the model in training; padding is not counted
    flops: float
    predict: Callable[[Sequence[Example]], Evaluation] | None = None  #: an encoder's answers
    head: nn.Linear | None = None  #: an encoder's classification head

    def fields(self, loss_points: int = LOSS_POINTS) -> dict[str, Any]:
        """The training's part of a ``TrialResult``, with at most so many train losses."""
        return {
            "train_seconds": number(self.seconds),
            "train_tokens": self.tokens,
            "train_flops": number(self.flops),
            "train_loss": [number(float(f"{loss:.4g}")) for loss in self.losses.shares(loss_points)],
        }


def subset(session: Session, settings: Settings) -> list[Example]:
    """The training subset of a configuration: the first examples of the seed's nested order."""
    train = session.data.train
    balanced = session.spec.task.type is TaskType.CLASSIFICATION
    return [train[i] for i in nested_order(train, settings.seed, balanced)[: settings.examples]]


def refuse(session: Session) -> None:
    """Raise ``Unsupported`` for what no fine-tuning here can do."""
    model, task = session.spec.model, session.spec.task
    if session.model.architecture is Architecture.ENCODER and task.type is not TaskType.CLASSIFICATION:
        raise Unsupported(
            f"model '{model.name}' is an Encoder, whose head answers Classification tasks only, not {task.type}"
        )


@contextmanager
def tuned(session: Session, kind: Kind, settings: Settings, updates: int | None = None) -> Iterator[Trained]:
    """The session's model, trained, or stopped after ``updates`` of its schedule's steps.

    When the context ends adapters are gone, whatever happened.

    Full fine-tuning writes to the weights themselves: the frame sees it and loads them afresh.

    Raises
    ------
    FloatingPointError: a loss was not finite.
    Unsupported: the model or this machine cannot.
    """
    refuse(session)
    examples = subset(session, settings)
    try:
        with ExitStack() as stack:
            module = stack.enter_context(_module(session, kind))
            start = time.monotonic()  # after the module is there: quantising it is loading, and no speed of training
            parameters = stack.enter_context(_parameters(module, kind, settings))
            model = dataclasses.replace(session.model, module=module)
            train = _train_encoder if model.architecture is Architecture.ENCODER else _train_causal
            with adapters.eager_attention(module):
                trained = train(session, model, kind, settings, parameters, examples, updates or settings.steps)
            stack.enter_context(adapters.merged(module))
            trained.seconds = time.monotonic() - start
            yield trained
            if session.keep is not None:
                session.keep(trained)
    finally:
        gc.collect()
        if session.model.device.type == "cuda":
            torch.cuda.empty_cache()


def measure_tuning(session: Session, trial: Trial, kind: Kind) -> TrialResult:
    """Train the trial's configuration on the trial's number of examples and score the evaluation items.

    Raises ``FloatingPointError`` when a loss or score is not finite (the frame records Diverged), ``Unsupported``, and
    what torch raises when memory runs out.
    """
    settings = parse_settings(trial, len(session.data.train), kind.learning_rate)
    items = evaluation_items(session, trial)
    with tuned(session, kind, settings) as trained:
        if trained.predict is None:
            evaluation = evaluate(trained.model, session.spec.task, items)
        else:
            evaluation = trained.predict(items)
        return evaluation.result(trial.name, **trained.fields())


@contextmanager
def _module(session: Session, kind: Kind) -> Iterator[nn.Module]:
    if kind.training is not Training.QUANTIZED_ADAPTER:
        yield session.model.module
        return
    from orrery.probes.finetune.quantized import quantized

    with quantized(session) as module:
        yield module


def _parameters(module: nn.Module, kind: Kind, settings: Settings) -> AbstractContextManager[list[nn.Parameter]]:
    if kind.training is Training.FULL:
        return adapters.everything(module)
    return adapters.lora(module, settings.rank, settings.seed)


def _train_causal(
    session: Session,
    model: LoadedModel,
    kind: Kind,
    settings: Settings,
    parameters: list[nn.Parameter],
    examples: list[Example],
    updates: int,
) -> Trained:
    limit = min(MAX_TOKENS, model.facts.context_length or MAX_TOKENS)
    encoded = causal.encode(model, session.spec.task, examples, limit)
    loss = causal.AnswerLoss(model.module, model.tokenizer.pad_token_id or 0, model.device)
    lengths = [len(e) for e in encoded]
    optimizer = MasterAdamW([(parameters, settings.learning_rate)], weight_decay=0.01)
    sequence = ([encoded[i] for i in batch] for batch in islice(batches(lengths, settings), updates))
    losses = fit(sequence, settings.steps, loss, optimizer)
    flops = training_flops(model.facts, kind.training, lengths, settings.passes).sum() * updates / settings.steps
    return Trained(model, examples, losses, 0.0, loss.tokens, float(flops))


def _train_encoder(
    session: Session,
    model: LoadedModel,
    kind: Kind,
    settings: Settings,
    parameters: list[nn.Parameter],
    examples: list[Example],
    updates: int,
) -> Trained:
    rows = encoder.tokenize(model, [e.input for e in examples])
    index = {label: i for i, label in enumerate(session.data.labels)}
    labels = [index[e.target] for e in examples]
    head, fitting = encoder.fitted_head(model, rows, labels, len(index))
    loss = encoder.HeadLoss(model, head)
    lengths = [len(row) for row in rows]
    groups = [(parameters, settings.learning_rate), (list(head.parameters()), settings.learning_rate * HEAD_RATE)]
    optimizer = MasterAdamW(groups, weight_decay=0.01)
    sequence = ([(rows[i], labels[i]) for i in batch] for batch in islice(batches(lengths, settings), updates))
    losses = fit(sequence, settings.steps, loss, optimizer)
    training = training_flops(model.facts, kind.training, lengths, settings.passes) * updates / settings.steps
    flops = training + inference_flops(model.facts, lengths)

    def predict(items: Sequence[Example]) -> Evaluation:
        begun, meter = time.monotonic(), Meter()
        asked = encoder.tokenize(model, [e.input for e in items])
        found = encoder.predict(loss, asked)
        for row in asked:
            meter.add(len(row), 0)
        mean = meter.tokens / max(1, len(items))
        return judge(session.spec.task, items, list(found), model.facts, meter, time.monotonic() - begun, mean)

    return Trained(model, examples, losses, 0.0, loss.tokens + fitting, float(flops.sum()), predict, head)
