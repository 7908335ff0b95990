"""Score evaluation items with a model: what every strategy's measurement ends in.

Classification and MultipleChoice choose among options: a causal model by the log-likelihood of each option's text after
the prompt (the sum over its tokens, not normalised by length), an encoder by the cosine between the embeddings of the
input and of the option's text. Generation is greedy. NegativeLogLikelihood is, for tasks with options, minus the log of
the right option's share among the options; for Generation, minus the mean log-likelihood of the right answer's tokens.
Nats, averaged over items.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orrery.api.models import Architecture
from orrery.api.probe import Outcome, TrialResult
from orrery.api.task import MetricName, Task, TaskType
from orrery.costs.lengths import QUANTILES
from orrery.probes.embedding import embed
from orrery.probes.generation import generate
from orrery.probes.likelihood import Meter, log_likelihoods
from orrery.probes.metrics import exact_match, token_f1
from orrery.probes.prompts import continuation, preamble, request
from orrery.probes.report import number, pack_bits
from orrery.probes.session import Example, LoadedModel, Unsupported
from orrery.probes.tokenization import AnswerTokenizer
from orrery.probes.trie import Sequenced

CALIBRATIONS = ("none", "contextual")
#: Content-free inputs of contextual calibration (Zhao et al. 2021, arXiv 2102.09690, section 5).
CONTENT_FREE = ("N/A", "[MASK]", "")
#: Cosines become probabilities by softmax at this scale, the one sentence encoders are commonly trained with.
COSINE_SCALE = 20.0


@dataclass(frozen=True)
class Evaluation:
    """Per-item scores, and what it took to get them."""

    scores: NDArray[np.float64]  #: (items,) the metric, per item
    binary: bool  #: whether every score is 0 or 1
    log_probabilities: tuple[NDArray[np.float64], ...]  #: per item, over its options, normalised; empty for Generation
    tokens: int
    flops: float
    seconds: float
    request_tokens: float
    output_tokens: float
    remarks: tuple[str, ...] = ()
    lengths: tuple[int, ...] = ()  #: tokens of each generated answer

    def result(self, name: str, **more: Any) -> TrialResult:
        """As a trial's result, outcome Measured; ``more`` are further fields.

        Raises ``FloatingPointError`` when a score is not finite.
        """
        n = len(self.scores)
        error = float(self.scores.std(ddof=1)) / n**0.5 if n > 1 else None
        fields: dict[str, Any] = {
            "score": number(float(self.scores.mean())),
            "items": n,
            "bits": pack_bits([bool(s) for s in self.scores]) if self.binary else None,
            "standard_error": None if error is None else number(error),
            "evaluation_seconds": number(self.seconds),
            "evaluation_tokens": self.tokens,
            "evaluation_flops": number(self.flops),
            "request_tokens": number(self.request_tokens),
            "output_tokens": number(self.output_tokens),
            **_lengths(self.lengths),
            "message": "; ".join(self.remarks)[:400] or None,
        }
        return TrialResult(name=name, outcome=Outcome.MEASURED, **{**fields, **more})


def _lengths(tokens: Sequence[int]) -> dict[str, Any]:
    """How the lengths of generated answers are spread, in a few bytes (CASTILLO, arXiv 2505.16881)."""
    if not tokens:
        return {}
    found = np.quantile(tokens, QUANTILES, method="inverted_cdf")
    error = float(np.std(tokens, ddof=1)) / len(tokens) ** 0.5 if len(tokens) > 1 else None
    return {
        "output_token_quantiles": [int(v) for v in found],
        "output_tokens_error": None if error is None else number(error),
    }


def evaluate(
    model: LoadedModel,
    task: Task,
    items: Sequence[Example],
    demonstrations: Sequence[tuple[Example, ...]] | None = None,
    calibration: str = "none",
    meter: Meter | None = None,
    started: float | None = None,
) -> Evaluation:
    """Score ``items``.

    Parameters
    ----------
    demonstrations
        For each item what its prompt shows, nearest last; none by default. Causal models only.
    calibration
        ``contextual`` divides each option's probability by its mean probability after a content-free request (Zhao et
        al. 2021); tasks with options only.
    meter, started
        Work and ``time.monotonic()`` of a retrieval that belongs to the evaluation.

    Raises ``Unsupported`` when model and task do not go together.
    """
    started = time.monotonic() if started is None else started
    meter = meter if meter is not None else Meter()
    if calibration not in CALIBRATIONS:
        raise Unsupported(f"calibration is '{calibration}': write one of {', '.join(CALIBRATIONS)}")
    if task.type is TaskType.GENERATION and calibration != "none":
        raise Unsupported(f"calibration is '{calibration}', which needs options to choose from: write none")
    demonstrations = [()] * len(items) if demonstrations is None else demonstrations
    if model.architecture is Architecture.ENCODER:
        if task.type is TaskType.GENERATION or any(demonstrations):
            what = "Generation tasks" if task.type is TaskType.GENERATION else "demonstrations"
            raise Unsupported(f"an Encoder embeds text and cannot use {what}: choose a Causal model")
        return _encoder(model, task, items, calibration, meter, started)
    run = _generation if task.type is TaskType.GENERATION else _options
    return run(model, task, items, demonstrations, calibration, meter, started)


def _options(
    model: LoadedModel,
    task: Task,
    items: Sequence[Example],
    demonstrations: Sequence[tuple[Example, ...]],
    calibration: str,
    meter: Meter,
    started: float,
) -> Evaluation:
    tokens = AnswerTokenizer(model.tokenizer)

    def answers(prompt: str, item: Example) -> list[list[int]]:
        return [tokens.answer(prompt, continuation(task.template, option)) for option in item.options]

    ends = [request(task.template, item) for item in items]
    options = [answers(end, item) for end, item in zip(ends, items, strict=True)]
    room = [max(map(len, o)) for o in options]
    prompts, shown, remarks = _prompts(model, task, items, demonstrations, room, tokens)
    sequences = [[Sequenced(p, a) for a in o] for p, o in zip(prompts, options, strict=True)]
    if calibration == "contextual":
        free = [Example(text, "") for text in CONTENT_FREE]
        keys = {(demos, item.options) for demos, item in zip(shown, items, strict=True)}
        # With the same demonstrations and options everywhere one answer serves all items; else each item has its own,
        # which shares the item's demonstrations.
        owners = [0] if len(keys) == 1 else range(len(items))
        for i in owners:
            cut, _, _ = _prompts(model, task, free, [shown[i]] * len(free), [room[i]] * len(free), tokens)
            extra = [
                Sequenced(p, a)
                for p, e in zip(cut, free, strict=True)
                for a in answers(request(task.template, e), items[i])
            ]
            sequences[i] = [*sequences[i], *extra]
    found = log_likelihoods(model, sequences, meter)
    log_probabilities = []
    prior: NDArray[np.float64] | None = None
    for item, values in zip(items, found, strict=True):
        n = len(item.options)
        if len(values) > n:
            prior = _log_mean(values[n:].reshape(len(CONTENT_FREE), n))
        log_probabilities.append(_log_softmax(values[:n] if prior is None else values[:n] - prior))
    right = [item.options.index(item.target) for item in items]
    return _chosen(
        task,
        log_probabilities,
        right,
        model,
        meter,
        started,
        request_tokens=float(np.mean([len(p) for p in prompts])),
        output_tokens=float(np.mean([len(o[r]) for o, r in zip(options, right, strict=True)])),
        remarks=remarks,
    )


def _encoder(
    model: LoadedModel, task: Task, items: Sequence[Example], calibration: str, meter: Meter, started: float
) -> Evaluation:
    texts = list(dict.fromkeys(option for item in items for option in item.options))
    place = {text: i for i, text in enumerate(texts)}
    # Labels such as add_to_playlist are words to a reader, and should be to the encoder.
    table = embed(model, [text.replace("_", " ") for text in texts], Meter())
    before = meter.tokens
    vectors = embed(model, [item.input for item in items], meter)
    request_tokens = (meter.tokens - before) / max(1, len(items))
    meter.add(sum(AnswerTokenizer(model.tokenizer).count(texts)), 0)
    prior = embed(model, list(CONTENT_FREE), meter) if calibration == "contextual" else None
    log_probabilities = []
    for item, vector in zip(items, vectors, strict=True):
        rows = table[[place[o] for o in item.options]]
        values = COSINE_SCALE * rows @ vector
        if prior is not None:
            values = values - _log_mean(COSINE_SCALE * prior @ rows.T)
        log_probabilities.append(_log_softmax(values))
    right = [item.options.index(item.target) for item in items]
    return _chosen(
        task, log_probabilities, right, model, meter, started, request_tokens=request_tokens, output_tokens=0.0
    )


def _generation(
    model: LoadedModel,
    task: Task,
    items: Sequence[Example],
    demonstrations: Sequence[tuple[Example, ...]],
    calibration: str,
    meter: Meter,
    started: float,
) -> Evaluation:
    tokens = AnswerTokenizer(model.tokenizer)
    targets = [tokens.answer(request(task.template, item), continuation(task.template, item.target)) for item in items]
    likelihood = task.metric.name is MetricName.NEGATIVE_LOG_LIKELIHOOD
    room = [len(t) if likelihood else task.max_output_tokens for t in targets]
    prompts, _, remarks = _prompts(model, task, items, demonstrations, room, tokens)
    written = float(np.mean([len(t) for t in targets]))
    lengths: list[int] = []
    if likelihood:
        found = log_likelihoods(model, [[Sequenced(p, t)] for p, t in zip(prompts, targets, strict=True)], meter)
        scores = np.array([-v[0] / len(t) for v, t in zip(found, targets, strict=True)])
    else:
        multiline = any("\n" in item.target for item in items)
        stop = (task.template.separator if multiline else "\n") or "\n"
        texts, lengths = generate(model, prompts, task.max_output_tokens, stop, meter)
        written = float(np.mean(lengths))
        score = token_f1 if task.metric.name is MetricName.TOKEN_F1 else exact_match
        scores = np.array([score(t, (i.target, *i.references)) for t, i in zip(texts, items, strict=True)])
    return Evaluation(
        scores=scores,
        binary=task.metric.name in (MetricName.ACCURACY, MetricName.EXACT_MATCH),
        log_probabilities=(),
        tokens=meter.tokens,
        flops=meter.flops(model.facts),
        seconds=time.monotonic() - started,
        request_tokens=float(np.mean([len(p) for p in prompts])),
        output_tokens=written,
        remarks=remarks,
        lengths=tuple(lengths),
    )


def _prompts(
    model: LoadedModel,
    task: Task,
    items: Sequence[Example],
    demonstrations: Sequence[tuple[Example, ...]],
    room: Sequence[int],
    tokens: AnswerTokenizer,
) -> tuple[list[list[int]], list[tuple[Example, ...]], tuple[str, ...]]:
    """Token ids of each prompt, with ``room`` for its answer in the context, and the demonstrations that stayed.

    A prompt that is too long loses its farthest demonstrations, then the beginning of the request; the remark says so.
    """

    def text(item: Example, shown: tuple[Example, ...]) -> str:
        return preamble(task.template, shown) + request(task.template, item)

    shown = list(demonstrations)
    ids = tokens.prompts([text(item, s) for item, s in zip(items, shown, strict=True)])
    limit = model.facts.context_length
    if limit is None:
        return ids, shown, ()
    dropped = cut = 0
    for i, item in enumerate(items):
        allowed = max(1, limit - room[i])
        dropped += len(ids[i]) > allowed and bool(shown[i])
        while len(ids[i]) > allowed and shown[i]:
            shown[i] = shown[i][1:]
            ids[i] = tokens.prompts([text(item, shown[i])])[0]
        if len(ids[i]) > allowed:
            ids[i] = ids[i][-allowed:]
            cut += 1
    remarks = []
    if dropped:
        remarks.append(
            f"{dropped} of {len(items)} prompts pass {limit} tokens: their farthest demonstrations were left out"
        )
    if cut:
        remarks.append(f"{cut} of {len(items)} requests alone pass {limit} tokens: their beginning was cut off")
    return ids, shown, tuple(remarks)


def _chosen(
    task: Task,
    log_probabilities: Sequence[NDArray[np.float64]],
    right: Sequence[int],
    model: LoadedModel,
    meter: Meter,
    started: float,
    request_tokens: float,
    output_tokens: float,
    remarks: tuple[str, ...] = (),
) -> Evaluation:
    if not all(np.isfinite(p).all() for p in log_probabilities):
        raise FloatingPointError("an option's log-likelihood is not finite")
    likelihood = task.metric.name is MetricName.NEGATIVE_LOG_LIKELIHOOD
    if likelihood:
        scores = np.array([-p[r] for p, r in zip(log_probabilities, right, strict=True)])
    else:
        scores = np.array([float(p.argmax() == r) for p, r in zip(log_probabilities, right, strict=True)])
    return Evaluation(
        scores=scores,
        binary=not likelihood,
        log_probabilities=tuple(log_probabilities),
        tokens=meter.tokens,
        flops=meter.flops(model.facts),
        seconds=time.monotonic() - started,
        request_tokens=request_tokens,
        output_tokens=output_tokens,
        remarks=remarks,
    )


def _log_softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = values - values.max(axis=-1, keepdims=True)
    normalised: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalised


def _log_mean(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log of the mean over rows of their probabilities."""
    mean: NDArray[np.float64] = np.log(np.exp(_log_softmax(rows)).mean(axis=0).clip(min=1e-12))
    return mean
