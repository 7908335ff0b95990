"""The empirical neural tangent kernel of the untuned model on a sample, and what is left to learn along it.

K[i, j] is the inner product of the gradients of f(x_i) and f(x_j) with respect to the weights, f the log-probability of
the right answer given the request (LENSLLM, arXiv 2505.03793, takes K of the untuned model on a sample; Jacot et al.
2018, arXiv 1806.07572). Weights are those of the linear layers in the transformer blocks, the ones adapters sit on, and
an encoder's head; embeddings and norms are left out. Nothing is projected: for a linear layer the gradient is an outer
product, so that the inner product of two is

    <dW_i, dW_j> = sum over tokens s, t of (x_is . x_jt) (d_is . d_jt),

x the layer's inputs, d the gradients at its outputs; one backward pass gives all. LoRA starts with B = 0, which makes its
own kernel a random projection of this one (Malladi et al. 2023, arXiv 2210.05643, section 6), so it stands for both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from orrery.api.models import Architecture
from orrery.api.probe import Outcome, Trial, TrialResult
from orrery.costs.flops import Training, training_flops
from orrery.probes.finetune import adapters, causal, encoder
from orrery.probes.finetune.cache import remembered
from orrery.probes.finetune.direct import MAX_TOKENS, Kind, refuse, subset
from orrery.probes.finetune.settings import Settings, parse_settings
from orrery.probes.report import number
from orrery.probes.session import Example, Session

#: Examples of the sample at most, and the tokens they may come to: the products grow with the tokens' square.
SAMPLE, TOKENS = 32, 1024
#: Eigenvalues that are reported, and as many powers: 32 numbers.
MODES = 16
Array = NDArray[np.float64]


def measure_kernel(session: Session, trial: Trial, kind: Kind) -> TrialResult:
    """Eigenvalues of K and the residual's power along each; the same for every configuration of one size and seed.

    ``TrialResult.kernel`` is ``summary``'s list. There is no score: nothing was evaluated.
    """
    refuse(session)
    settings = parse_settings(trial, len(session.data.train), kind.learning_rate)
    start = time.monotonic()
    examples = subset(session, settings)[:SAMPLE]
    key = f"kernel-{settings.seed}-{len(examples)}"
    first = key not in session.__dict__.get("_remembered", {})
    lengths, modes = remembered(session, key, lambda: _sampled(session, settings, examples))
    flops = training_flops(session.model.facts, Training.FULL, lengths, 1).sum() if first else 0.0
    return TrialResult(
        name=trial.name,
        outcome=Outcome.MEASURED,
        train_seconds=number(time.monotonic() - start),
        train_tokens=int(sum(lengths)) if first else 0,
        train_flops=number(float(flops)),
        kernel=[number(v) for v in modes],
    )


def summary(kernel: Array, residual: Array, modes: int = MODES) -> list[float]:
    """The ``modes`` largest eigenvalues of K / n, descending, then the residual's mean power along each, as many.

    Divided by the sample's size n, so that samples of different sizes are comparable and training time is counted in
    full-batch steps. Modes beyond the list are gathered in its last place, at their power-weighted mean eigenvalue, so
    that the powers always sum to the mean squared residual. F of the rectified law follows for any time:
    F(eta t) = sum of power * exp(-2 eta eigenvalue t).

    >>> summary(np.diag([8.0, 2.0]), np.array([1.0, 3.0]), modes=2)
    [4.0, 1.0, 0.5, 4.5]
    """
    n = len(residual)
    values, vectors = np.linalg.eigh((kernel + kernel.T) / (2 * n))
    values = np.maximum(values[::-1], 0.0)
    powers = (vectors.T[::-1] @ residual) ** 2 / n
    if n > modes:
        rest = powers[modes - 1 :].sum()
        mean = float((values[modes - 1 :] * powers[modes - 1 :]).sum() / rest) if rest > 0 else 0.0
        values = np.append(values[: modes - 1], mean)
        powers = np.append(powers[: modes - 1], rest)
    return [*map(float, values), *map(float, powers)]


def tangent_kernel(
    module: nn.Module, layers: Sequence[nn.Module], outputs: Callable[[], Tensor], heads: Sequence[nn.Module] = ()
) -> tuple[Array, Array]:
    """K (n, n) over the weights of ``layers`` and ``heads``, and the outputs (n,).

    Args:
        outputs: runs the model on the sample, one row an example, and gives one number for each, with its graph.
        layers: see (batch, tokens, width).
        heads: see (batch, width), and their biases count.
    """
    found: list[Tensor] = []

    def watch(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x = inputs[0].detach()
        x = x.reshape(x.shape[0], -1, x.shape[-1]).float()
        bias = float(layer in heads)
        output.register_hook(lambda d: found.append(_inner(x, d.detach().reshape(*x.shape[:2], -1).float(), bias)))  # type: ignore[no-untyped-call]

    def begin(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output.requires_grad_(True)

    embeddings = module.get_input_embeddings()  # type: ignore[operator]  # a transformers model
    hooks = [embeddings.register_forward_hook(begin), *(x.register_forward_hook(watch) for x in [*layers, *heads])]
    try:
        with _frozen(module), torch.enable_grad():
            values = outputs()
            values.sum().backward()  # type: ignore[no-untyped-call]
    finally:
        for hook in hooks:
            hook.remove()
    total = torch.stack(found).sum(0)
    return total.double().cpu().numpy(), values.detach().double().cpu().numpy()


def _inner(x: Tensor, d: Tensor, bias: float) -> Tensor:
    """Inner products of the examples' weight gradients at one layer, (n, n)."""
    n, tokens = x.shape[:2]
    flat_x, flat_d = x.reshape(n * tokens, -1), d.reshape(n * tokens, -1)
    products = (flat_x @ flat_x.T + bias) * (flat_d @ flat_d.T)
    return products.reshape(n, tokens, n, tokens).sum((1, 3))


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """No gradients of weights: the hooks need those of activations alone."""
    asked = [(p, p.requires_grad) for p in module.parameters()]
    try:
        module.requires_grad_(False)
        yield
    finally:
        for p, wanted in asked:
            p.requires_grad_(wanted)


def _sampled(session: Session, settings: Settings, examples: list[Example]) -> tuple[list[int], list[float]]:
    """Lengths of the sample's sequences in tokens, and the kernel's summary."""
    model = session.model
    layers = [model.module.get_submodule(name) for name in adapters.linear_names(model.module)]
    if model.architecture is Architecture.ENCODER:
        rows = encoder.tokenize(model, [e.input for e in examples])
        lengths = _fitting([len(r) for r in rows])
        index = {label: i for i, label in enumerate(session.data.labels)}
        labels = [index[e.target] for e in examples][: len(lengths)]
        head, _ = encoder.fitted_head(model, rows[: len(lengths)], labels, len(index))
        loss = encoder.HeadLoss(model, head)
        right = torch.tensor(labels, device=model.device)[:, None]

        def classes() -> Tensor:
            scores = torch.log_softmax(loss.logits(rows[: len(lengths)]).float(), -1)
            return scores.gather(1, right)[:, 0]

        with adapters.eager_attention(model.module):
            kernel, outputs = tangent_kernel(model.module, layers, classes, heads=[head])
    else:
        encoded = causal.encode(model, session.spec.task, examples, min(MAX_TOKENS, TOKENS))
        lengths = _fitting([len(e) for e in encoded])
        each = causal.AnswerLoss(model.module, model.tokenizer.pad_token_id or 0, model.device)
        with adapters.eager_attention(model.module):
            kernel, outputs = tangent_kernel(
                model.module, layers, lambda: each.log_likelihoods(encoded[: len(lengths)])
            )
    if not (np.isfinite(kernel).all() and np.isfinite(outputs).all()):
        raise FloatingPointError("the tangent kernel is not finite")
    # The wanted log-probability is 0, so the residual is the output itself.
    return lengths, summary(kernel, outputs)


def _fitting(lengths: list[int]) -> list[int]:
    """As many of the first lengths as fit the bound with padding; at least one."""
    count = 1
    while count < len(lengths) and (count + 1) * max(lengths[: count + 1]) <= TOKENS:
        count += 1
    return lengths[:count]
