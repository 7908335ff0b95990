"""The tangent kernel against gradients taken one by one, and its summary against the matrix exponential."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from orrery.api.models import Architecture
from orrery.api.probe import Method, Outcome
from orrery.probes.finetune import adapters, causal, encoder
from orrery.probes.finetune.kernel import summary, tangent_kernel
from orrery.probes.models import fingerprint
from orrery.probes.runner import measure_trial, measures

from .tiny import session, trial

pytestmark = pytest.mark.model


def test_a_causal_models_kernel_is_that_of_its_weights_gradients() -> None:
    s = session(Architecture.CAUSAL)
    module = s.model.module
    batch = causal.encode(s.model, s.spec.task, s.data.train[:4], 64)
    loss = causal.AnswerLoss(module, 0, s.model.device)
    names = adapters.linear_names(module)
    kernel, outputs = tangent_kernel(
        module, [module.get_submodule(n) for n in names], lambda: loss.log_likelihoods(batch)
    )
    gradients = []
    for i, e in enumerate(batch):
        value = loss.log_likelihoods([e])[0]
        assert float(value.detach()) == pytest.approx(outputs[i], abs=1e-4)
        each = torch.autograd.grad(value, [module.get_submodule(n).weight for n in names])
        gradients.append(torch.cat([g.flatten() for g in each]).double())
    exact = (torch.stack(gradients) @ torch.stack(gradients).T).numpy()
    np.testing.assert_allclose(kernel, exact, rtol=1e-3, atol=1e-4 * np.abs(exact).max())


def test_an_encoders_kernel_counts_its_head_and_the_heads_bias() -> None:
    s = session(Architecture.ENCODER)
    module = s.model.module
    torch.manual_seed(1)
    head = torch.nn.Linear(32, 3)
    loss = encoder.HeadLoss(s.model, head)
    rows = encoder.tokenize(s.model, [e.input for e in s.data.train[:4]])
    names = adapters.linear_names(module)
    layers = [module.get_submodule(n) for n in names]
    kernel, _ = tangent_kernel(module, layers, lambda: loss.logits(rows)[:, 1], heads=[head])
    weights = [*(layer.weight for layer in layers), head.weight, head.bias]
    gradients = []
    for row in rows:
        each = torch.autograd.grad(loss.logits([row])[0, 1], weights)
        gradients.append(torch.cat([g.flatten() for g in each]).double())
    exact = (torch.stack(gradients) @ torch.stack(gradients).T).numpy()
    np.testing.assert_allclose(kernel, exact, rtol=1e-3, atol=1e-4 * np.abs(exact).max())


def alignment(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two centred kernels (Cortes, Mohri and Rostamizadeh 2012, JMLR 13, definition 4)."""
    centre = np.eye(len(a)) - 1 / len(a)
    a, b = centre @ a @ centre, centre @ b @ centre
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize(("architecture", "least"), [(Architecture.CAUSAL, 0.9), (Architecture.ENCODER, 0.85)])
def test_the_layers_that_are_measured_stand_for_all_parameters(architecture: Architecture, least: float) -> None:
    """Embeddings, norms and biases are left out: what they add is much larger and mostly turns the same way (.95 and .88)."""
    s = session(architecture)
    module, count = s.model.module, 24
    names = adapters.linear_names(module)
    layers, heads = [module.get_submodule(n) for n in names], []
    if architecture is Architecture.CAUSAL:
        batch = causal.encode(s.model, s.spec.task, s.data.train[:count], 64)
        answer = causal.AnswerLoss(module, 0, s.model.device)
        parameters = list(module.parameters())
        each = [lambda e=e: answer.log_likelihoods([e])[0] for e in batch]
        kernel, _ = tangent_kernel(module, layers, lambda: answer.log_likelihoods(batch))
    else:
        torch.manual_seed(1)
        head = torch.nn.Linear(32, 3)
        heads, parameters = [head], [*module.parameters(), *head.parameters()]
        loss = encoder.HeadLoss(s.model, head)
        rows = encoder.tokenize(s.model, [e.input for e in s.data.train[:count]])
        each = [lambda r=r: loss.logits([r])[0, 1] for r in rows]
        kernel, _ = tangent_kernel(module, layers, lambda: loss.logits(rows)[:, 1], heads=heads)
    for p in parameters:
        p.requires_grad_(True)
    gradients = []
    for value in each:
        found = torch.autograd.grad(value(), parameters, allow_unused=True)
        gradients.append(torch.cat([g.flatten() for g in found if g is not None]).double())
    everything = (torch.stack(gradients) @ torch.stack(gradients).T).numpy()
    assert np.trace(kernel) < np.trace(everything), "there are more parameters than were measured"
    assert alignment(kernel, everything) > least


def test_the_summary_gives_what_the_matrix_exponential_gives() -> None:
    rng = np.random.default_rng(0)
    root, residual = rng.normal(size=(6, 6)), rng.normal(size=6)
    kernel = root @ root.T
    for modes, tolerance in ((6, 1e-9), (4, 0.05)):
        numbers = np.array(summary(kernel, residual, modes))
        values, powers = numbers[:modes], numbers[modes:]
        assert powers.sum() == pytest.approx((residual**2).mean())
        for time in (0.0, 0.1, 1.0):
            exact = np.sum((expm(-kernel / 6 * time) @ residual) ** 2) / 6
            assert (powers * np.exp(-2 * values * time)).sum() == pytest.approx(exact, abs=tolerance)


@pytest.mark.parametrize("architecture", [Architecture.CAUSAL, Architecture.ENCODER])
def test_a_trial_reports_it_once_for_all_configurations(architecture: Architecture) -> None:
    s = session(architecture)
    mark = fingerprint(s.model.module)
    first, second = (
        measure_trial(s, trial("LoRA", 24, method=Method.KERNEL, learningRate=r), measures()) for r in ("1e-4", "1e-3")
    )
    assert first.outcome is Outcome.MEASURED, first.message
    assert len(first.kernel) == 32 and first.kernel == second.kernel
    assert list(first.kernel[:16]) == sorted(first.kernel[:16], reverse=True) and min(first.kernel) >= 0
    assert first.train_tokens > 0 == second.train_tokens and first.score is None
    assert fingerprint(s.model.module) == mark
