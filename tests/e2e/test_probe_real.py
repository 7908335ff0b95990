"""Probes with the real SmolLM2-135M and MiniLM on real utterances; small subsets, so that it takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from orrery.api.catalogue import MODELS, TASKS
from orrery.api.probe import REPORT_LIMIT, AdaptationProbe, Outcome, ProbeSpec, Report, probe_name
from orrery.api.task import Task
from orrery.cli.main import app
from orrery.probes.report import unpack_bits

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("builtin_assets")]

INTENTS = {
    "type": "Classification",
    "dataset": {"source": {"builtin": {"name": "bigbench/intent_recognition"}}},
    "template": {"example": "{input}\nIntent:"},
}


def in_context(name: str, **parameters: str) -> dict[str, Any]:
    values = [{"name": k, "value": v} for k, v in parameters.items()]
    return {"name": name, "strategy": "InContext", "parameters": values}


def spec(model: str, *trials: dict[str, Any], items: int) -> dict[str, Any]:
    architecture = MODELS[model].architecture.value
    return {
        "model": {"name": "m", "architecture": architecture, "source": {"builtin": {"name": model}}},
        "task": INTENTS,
        "accelerator": "cpu",
        "deadlineSeconds": 300,
        "trials": [{"fidelity": {"evaluationItems": items}, **trial} for trial in trials],
    }


def catalogued(model: str) -> dict[str, Any]:
    """What the catalogue says of the model's sizes; a probe, which sees the files, may say more."""
    return MODELS[model].facts.model_dump(by_alias=True, exclude_none=True)


def cli(document: dict[str, Any], folder: Path, own_process: bool = False) -> Report:
    """The command's report; in this process, which has torch already, or in one of its own as engines start it."""
    (folder / "probe.yaml").write_text(json.dumps(document))
    command = ["probe", str(folder / "probe.yaml"), "--report", str(folder / "report.json")]
    if own_process:
        subprocess.run([sys.executable, "-m", "orrery.cli.main", *command], cwd=folder, check=True, timeout=600)
    else:
        CliRunner().invoke(app, command, catch_exceptions=False)
    data = (folder / "report.json").read_bytes()
    assert len(data) <= REPORT_LIMIT
    return Report.model_validate_json(data)


def test_smollm2_learns_intents_from_retrieved_demonstrations(tmp_path: Path) -> None:
    zero = {"name": "zero", "strategy": "ZeroShot"}
    near = in_context("near", shots="2", retriever="bm25")
    document = spec("smollm2-135m-instruct", zero, near, {**zero, "name": "again"}, items=32)
    manifest = {
        "apiVersion": "orrery.dev/v1alpha1",
        "kind": "AdaptationProbe",
        "metadata": {"name": "probe-x"},
        "spec": document,
    }
    report = cli(manifest, tmp_path, own_process=True)
    assert report.complete and report.probe == probe_name(AdaptationProbe.model_validate(manifest).spec)
    assert report.model_facts is not None
    assert report.model_facts.items() >= catalogued("smollm2-135m-instruct").items()
    first, nearest, again = report.trials
    assert [t.outcome for t in report.trials] == [Outcome.MEASURED] * 3
    assert first.score is not None and nearest.score is not None
    assert first.bits == again.bits and first.score == again.score, "the same trial gives the same answer"
    assert 0.1 <= first.score <= 0.6, "above nothing, below what adaptation gives"
    assert nearest.score >= first.score + 20 * max(first.standard_error or 0, 0) / 10, "two standard errors better"
    right = unpack_bits(first.bits or "", 32)
    assert sum(right) / 32 == pytest.approx(float(first.score))
    assert nearest.request_tokens is not None and first.request_tokens is not None
    assert nearest.request_tokens > first.request_tokens + 30
    assert report.task_facts is not None and report.task_facts.neighbour_vote is not None
    assert nearest.score == pytest.approx(report.task_facts.neighbour_vote, abs=Decimal("0.15")), "it gives their label"


def test_smollm2_writes_longer_answers_than_the_right_ones_and_the_probe_says_how_long(tmp_path: Path) -> None:
    counting = {
        "type": "Generation",
        "dataset": {"source": {"builtin": {"name": "bigbench/object_counting"}}},
        "metric": {"name": "ExactMatch"},
        "maxOutputTokens": 24,
    }
    trials = {"name": "zero", "strategy": "ZeroShot"}, in_context("two", shots="2", retriever="random")
    report = cli({**spec("smollm2-135m-instruct", *trials, items=12), "task": counting}, tmp_path)
    assert report.task_facts is not None and report.task_facts.output_tokens == 1
    assert report.task_facts.neighbour_vote is None, "answers are free"
    for result in report.trials:
        spread, mean = result.output_token_quantiles, float(result.output_tokens or 0)
        assert len(spread) == 5 and spread == sorted(spread) and spread[-1] <= 24
        assert 1 < mean <= 24 and spread[0] <= mean and result.output_tokens_error is not None


def test_minilm_answers_by_similarity(tmp_path: Path) -> None:
    report = cli(spec("all-minilm-l6-v2", {"name": "zero", "strategy": "ZeroShot"}, items=200), tmp_path)
    assert report.model_facts is not None and report.model_facts.items() >= catalogued("all-minilm-l6-v2").items()
    score = report.trials[0].score
    assert score is not None and score > 0.6


def test_smollm2_is_scored_as_a_plain_forward_pass_scores_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from orrery.probes import evaluation, likelihood, models
    from orrery.probes.data import read_task
    from orrery.probes.retrieval import demonstrations, pool_of

    monkeypatch.setattr(models, "pick_dtype", lambda device: torch.float32)
    asked = ProbeSpec.model_validate(spec("smollm2-135m-instruct", {"name": "z", "strategy": "ZeroShot"}, items=1))
    model, data = models.load(asked.model), read_task(asked.task)
    items = data.evaluation[:2]
    shown = demonstrations(model, pool_of(data.train, 0, 0), items, 1, "random", likelihood.Meter())
    fast = evaluation.evaluate(model, asked.task, items, shown)
    monkeypatch.setattr(evaluation, "log_likelihoods", likelihood.plain_log_likelihoods)
    plain = evaluation.evaluate(model, asked.task, items, shown)
    for one, other in zip(fast.log_probabilities, plain.log_probabilities, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-3)
    assert fast.tokens * 5 < plain.tokens
    before = models.fingerprint(model.module)
    with torch.no_grad():
        next(model.module.parameters()).mul_(2)
    assert models.fingerprint(model.module) != before
    model.fresh()
    again = evaluation.evaluate(model, asked.task, items[:1], shown[:1])
    np.testing.assert_allclose(again.log_probabilities[0], plain.log_probabilities[0], rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_builtin_task_reads_as_the_catalogue_says(name: str) -> None:
    from orrery.probes.data import read_task

    entry = TASKS[name]
    task = Task.model_validate({"type": entry.type, "dataset": {"source": {"builtin": {"name": name}}}})
    data = read_task(task)
    assert len(data.train) + len(data.evaluation) == entry.items
    assert len(data.labels) == entry.labels
    assert all(e.target in e.options for e in (*data.train[:200], *data.evaluation[:200])) or not data.train[0].options
