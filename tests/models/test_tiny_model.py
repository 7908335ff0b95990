"""Scoring and the runner with models of random weights: what must hold for any model holds for these."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orrery.api.models import Model, Precision
from orrery.api.probe import Outcome, ProbeSpec, Report, Trial, TrialResult, probe_name
from orrery.planning.advance import advance
from orrery.planning.types import ProbeRecord, ProbeState
from orrery.probes.report import number
from orrery.probes.session import LoadedModel, Session, Unsupported
from tests.models.conftest import Maker
from tests.models.tiny_models import save_tiny
from tests.unit.planning.world import make_plan, make_prices
from tests.unit.probes.tasks import local_task, pairs, write_jsonl

pytestmark = pytest.mark.model


def model_at(folder: Path, architecture: str = "Causal") -> Model:
    return Model.model_validate(
        {"name": "tiny", "architecture": architecture, "source": {"local": {"path": str(folder)}}}
    )


def load(folder: Path, monkeypatch: pytest.MonkeyPatch, architecture: str = "Causal") -> LoadedModel:
    import torch

    from orrery.probes import models

    monkeypatch.setattr(models, "pick_dtype", lambda device: torch.float32)
    return models.load(model_at(folder, architecture))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("data") / "data.jsonl", pairs(30))


def spec_of(folder: Path, data: Path, *trials: dict[str, Any], kind: str = "Classification", **task: Any) -> ProbeSpec:
    wire = {**local_task(data, kind).to_wire(), **task}
    return ProbeSpec.model_validate(
        {
            "model": model_at(folder).to_wire(),
            "task": wire,
            "accelerator": "cpu",
            "deadlineSeconds": 60,
            "trials": [{"fidelity": {"evaluationItems": 6}, **trial} for trial in trials],
        }
    )


ZERO = {"name": "zero", "strategy": "ZeroShot"}


def shots(k: int, retriever: str = "random", calibration: str = "none", seed: int = 0) -> dict[str, Any]:
    values = {"shots": str(k), "retriever": retriever, "calibration": calibration}
    parameters = [{"name": n, "value": v} for n, v in values.items()]
    name = f"k{k}-{retriever}-{calibration}-{seed}"
    return {"name": name, "strategy": "InContext", "parameters": parameters, "seed": seed}


@pytest.mark.parametrize(
    ("kind", "config", "reused"),
    [
        ("llama", {}, True),
        ("gpt2", {}, True),
        ("mistral", {"sliding_window": 4096}, True),
        ("mistral", {"sliding_window": 8}, False),
        ("mamba", {}, False),
    ],
)
@pytest.mark.parametrize("calibration", ["none", "contextual"])
def test_shared_tokens_run_once_give_the_plain_numbers(
    tiny: Maker,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    config: dict[str, Any],
    reused: bool,
    calibration: str,
) -> None:
    from orrery.probes import evaluation, likelihood
    from orrery.probes.data import read_task
    from orrery.probes.retrieval import demonstrations

    model = load(tiny(kind, **config), monkeypatch)
    task = local_task(data)
    examples = read_task(task)
    for retriever in ("random", "bm25"):
        shown = demonstrations(model, examples.train, examples.evaluation, 2, retriever, likelihood.Meter())
        fast = evaluation.evaluate(model, task, examples.evaluation, shown, calibration)
        with monkeypatch.context() as patch:
            patch.setattr(evaluation, "log_likelihoods", likelihood.plain_log_likelihoods)
            plain = evaluation.evaluate(model, task, examples.evaluation, shown, calibration)
        for one, other in zip(fast.log_probabilities, plain.log_probabilities, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-3)
        assert (fast.tokens < plain.tokens / 2) == reused


def test_generation_is_what_the_library_generates_and_shares_the_prefix(
    tiny: Maker, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from orrery.probes.generation import generate
    from orrery.probes.likelihood import Meter

    model = load(tiny(), monkeypatch)
    texts = ["Input: one\nAnswer:", "Input: a longer one\nAnswer:", "Input: three\nAnswer:"]
    prompts = [model.tokenizer(t)["input_ids"] for t in texts]
    meter = Meter()
    found, _ = generate(model, prompts, 12, "", meter)
    for prompt, text in zip(prompts, found, strict=True):
        ids = torch.tensor([prompt])
        wanted = model.module.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        assert text == model.tokenizer.decode(wanted[0, len(prompt) :], skip_special_tokens=True).strip()
    assert meter.tokens < sum(len(p) + 12 for p in prompts)
    first = found[0]
    if len(first) > 2:
        stopped, _ = generate(model, prompts[:1], 12, first[2], Meter())
        assert stopped[0] == first.split(first[2])[0].strip()


def test_a_probe_measures_all_its_trials_and_the_same_spec_gives_the_same_report(
    tiny: Maker, data: Path, tmp_path: Path
) -> None:
    from orrery.probes.runner import run

    spec = spec_of(
        tiny(),
        data,
        ZERO,
        shots(1),
        shots(3, seed=1),
        shots(3, "bm25"),
        shots(3, "dense"),
        shots(3, "random", "contextual"),
    )
    reports = [run(spec, tmp_path / f"{i}.json") for i in range(2)]
    assert reports[0].complete and reports[0].probe == probe_name(spec)
    assert [t.outcome for t in reports[0].trials] == [Outcome.MEASURED] * 6, [t.message for t in reports[0].trials]
    kept = ("score", "bits", "standard_error", "items", "evaluation_tokens", "request_tokens", "evaluation_flops")
    for one, other in zip(reports[0].trials, reports[1].trials, strict=True):
        assert [getattr(one, k) for k in kept] == [getattr(other, k) for k in kept]
    written = Report.model_validate(json.loads((tmp_path / "0.json").read_text()))
    assert written.trials == reports[0].trials
    assert written.model_facts is not None and written.model_facts["layers"] == 2


@pytest.mark.parametrize("kind", ["Classification", "Generation"])
def test_negative_log_likelihood_is_that_of_the_right_answer(
    tiny: Maker, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Against plain passes over whole texts, one at a time: the right option's share, or the right text's mean token."""
    import torch

    from orrery.probes.data import read_task
    from orrery.probes.runner import run

    model = load(tiny(), monkeypatch)
    spec = spec_of(tiny(), data, ZERO, kind=kind, metric={"name": "NegativeLogLikelihood"})

    def passed(prompt: str, answer: str) -> torch.Tensor:
        before = model.tokenizer(prompt)["input_ids"]
        ids = torch.tensor([before + model.tokenizer(answer)["input_ids"]])
        with torch.inference_mode():
            said = model.module(ids, use_cache=False).logits[0].double().log_softmax(-1)
        return said[torch.arange(len(before) - 1, ids.shape[1] - 1), ids[0, len(before) :]]

    wanted = []
    for item in read_task(spec.task).evaluation[:6]:
        prompt = f"Input: {item.input}\nAnswer:"
        if kind == "Generation":
            wanted.append(-float(passed(prompt, f" {item.target}").mean()))
        else:
            options = torch.stack([passed(prompt, f" {option}").sum() for option in item.options])
            wanted.append(-float(options.log_softmax(0)[item.options.index(item.target)]))
    result = run(spec, tmp_path / "r.json").trials[0]
    assert result.bits is None and float(result.score or 0) == pytest.approx(np.mean(wanted), abs=1e-4)
    assert float(result.standard_error or 0) == pytest.approx(np.std(wanted, ddof=1) / 6**0.5, abs=1e-4)


def says(folder: Path, prompt: str, text: str) -> Path:
    """A model in ``folder`` that continues ``prompt`` with ``text``, each of whose characters occurs once in it.

    Its one layer adds nothing, its embeddings are unit vectors, and its head holds which token follows which.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    save_tiny(folder, hidden_size=320, num_hidden_layers=1)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    byte = {tokenizer.decode([i]): i for i in range(len(tokenizer)) if len(tokenizer.decode([i])) == 1}
    chain = [tokenizer(prompt)["input_ids"][-1], *(byte[c] for c in text)]
    assert len(set(chain)) == len(chain)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "o_proj" in name or "down_proj" in name or "lm_head" in name:
                parameter.zero_()
        model.get_input_embeddings().weight.copy_(torch.eye(320))
        for one, following in pairwise(chain):
            model.get_output_embeddings().weight[following, one] = 1.0
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("metric", ["ExactMatch", "TokenF1"])
def test_texts_that_are_known_get_the_scores_that_are_known(tmp_path: Path, metric: str) -> None:
    """The model writes "Big cat" and then a line's end, whatever it is asked."""
    from orrery.probes.data import read_task
    from orrery.probes.report import unpack_bits
    from orrery.probes.runner import run

    scores = {  # by SQuAD's rules: articles, case and punctuation do not count
        "The big cat!": (1, 1.0),
        "cat": (0, 2 / 3),
        "a cat sat": (0, 0.5),
        "dog": (0, 0.0),
        "bigcat": (0, 0.0),
    }
    (folder := tmp_path / "data").mkdir()
    rows: list[dict[str, Any]] = [{"input": f"which {i}", "target": answer} for i, answer in enumerate(scores)]
    write_jsonl(folder / "validation.jsonl", [*rows, {"input": "more than one", "target": ["dog", "big cat"]}])
    write_jsonl(folder / "train.jsonl", [{"input": "one", "target": "answer"}])
    known = {**scores, "dog+": (1, 1.0)}
    model = says(tmp_path / "model", "Input: x\nAnswer:", " Big\tcat\n")
    spec = spec_of(model, folder, ZERO, kind="Generation", metric={"name": metric}, maxOutputTokens=12)
    result = run(spec, tmp_path / "r.json").trials[0]
    items = read_task(spec.task).evaluation
    wanted = [known[item.target + "+" * bool(item.references)][metric == "TokenF1"] for item in items]
    assert len(wanted) == result.items == 6
    assert float(result.score or 0) == pytest.approx(np.mean(wanted), abs=1e-5)
    assert float(result.standard_error or 0) == pytest.approx(np.std(wanted, ddof=1) / 6**0.5, abs=1e-5)
    assert float(result.output_tokens or 0) == 9, "a blank, two words and what is between them, and the line's end"
    if metric == "ExactMatch":
        assert unpack_bits(result.bits or "", 6) == [bool(w) for w in wanted]


@pytest.mark.parametrize("metric", ["ExactMatch", "TokenF1", "NegativeLogLikelihood"])
def test_generation_tasks(tiny: Maker, data: Path, tmp_path: Path, metric: str) -> None:
    from orrery.probes.runner import run

    spec = spec_of(
        tiny(), data, ZERO, shots(2), shots(2, "random", "contextual"), kind="Generation",
        metric={"name": metric}, maxOutputTokens=4,
    )  # fmt: skip
    zero, two, calibrated = run(spec, tmp_path / "r.json").trials
    assert zero.outcome is two.outcome is Outcome.MEASURED
    assert (zero.bits is not None) == (metric == "ExactMatch")
    for result in (zero, two):  # texts that were written have lengths, texts that were only scored have none
        spread = result.output_token_quantiles
        assert len(spread) == (0 if metric == "NegativeLogLikelihood" else 5) and spread == sorted(spread)
        if spread:
            assert spread[0] <= float(result.output_tokens or 0) <= spread[-1] <= 4
            assert result.output_tokens_error is not None
    assert calibrated.outcome is Outcome.UNSUPPORTED
    assert "needs options to choose from: write none" in (calibrated.message or "")


def test_four_bit_training_without_its_package_rejects_its_candidates_with_that_reason(
    tiny: Maker, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orrery.probes.finetune import quantized
    from orrery.probes.runner import run

    monkeypatch.setattr(quantized.importlib.util, "find_spec", lambda name: None)
    qlora = {"name": "qlora", "strategy": "QLoRA", "fidelity": {"trainingExamples": 8, "evaluationItems": 6}}
    spec = spec_of(tiny(), data, ZERO, qlora)
    report = run(spec, tmp_path / "r.json")
    reason = "QLoRA needs bitsandbytes, which is not installed: pip install 'orrery[probe]'"
    assert [(t.outcome, t.message) for t in report.trials] == [
        (Outcome.MEASURED, None),
        (Outcome.UNSUPPORTED, reason),
    ]
    strategies = [{"name": n, "type": t} for n, t in (("zero-shot", "ZeroShot"), ("qlora", "QLoRA"))]
    plan = make_plan(models=[spec.model.to_wire()], task=spec.task.to_wire(), strategies=strategies)
    record = ProbeRecord(
        name=report.probe,
        spec=spec,
        state=ProbeState.SUCCEEDED,
        attempts=1,
        cost=Decimal("0.01"),
        reserved=Decimal(0),
        seconds=5.0,
        report=report,
    )
    rows = [r for r in advance(plan, [record], make_prices()).rows if r.type == "QLoRA"]
    assert rows and {(r.status, r.reason) for r in rows} == {("Rejected", f"QLoRA does not run here: {reason}")}


def in_precision(folder: Path, precision: str) -> Model:
    return model_at(folder).model_copy(update={"precision": Precision(precision)})


@pytest.mark.parametrize(("precision", "layer"), [("Int8", "Linear8bitLt"), ("Int4", "Linear4bit")])
def test_a_model_is_measured_in_the_precision_it_is_served_with(
    tiny: Maker, data: Path, tmp_path: Path, precision: str, layer: str
) -> None:
    from orrery.probes import evaluation, models
    from orrery.probes.data import read_task
    from orrery.probes.runner import run

    folder = tiny("llama", hidden_size=64, intermediate_size=128)  # four-bit blocks hold 64 weights
    plain, rounded = (models.load(in_precision(folder, p)) for p in ("Bf16", precision))
    kinds = {type(m).__name__ for n, m in rounded.module.named_modules() if n.endswith("_proj")}
    assert kinds == {layer} and type(rounded.module.get_output_embeddings()).__name__ == "Linear"
    assert rounded.facts == plain.facts, "packed weights are as many parameters as before"
    weights, smaller = (
        sum(p.numel() * p.element_size() for n, p in m.module.named_parameters() if "_proj" in n)
        for m in (plain, rounded)
    )
    assert smaller < weights * (0.6 if precision == "Int8" else 0.3)

    task = local_task(data)
    items = read_task(task).evaluation[:6]
    exact, near = (np.array(evaluation.evaluate(m, task, items).log_probabilities) for m in (plain, rounded))
    assert not np.array_equal(exact, near), "rounding is not free"
    correlation = np.corrcoef(exact.ravel(), near.ravel())[0, 1]
    assert correlation > (0.98 if precision == "Int8" else 0.7)

    wire = spec_of(folder, data, ZERO, shots(2)).model_dump(by_alias=True)
    spec = ProbeSpec.model_validate({**wire, "model": in_precision(folder, precision).to_wire()})
    report = run(spec, tmp_path / "r.json")
    assert report.complete and [t.outcome for t in report.trials] == [Outcome.MEASURED] * 2, report.trials
    scored = evaluation.evaluate(rounded, task, items)
    assert report.trials[0].score == number(float(scored.scores.mean())), "the probe scores the rounded weights"
    assert report.probe != probe_name(spec_of(folder, data, ZERO, shots(2))), "another measurement than that of 16 bits"


def test_prompts_that_are_too_long_lose_their_farthest_demonstrations_and_say_so(
    tiny: Maker, data: Path, tmp_path: Path
) -> None:
    from orrery.probes.runner import run

    folder = tiny("llama", max_position_embeddings=64)
    result = run(spec_of(folder, data, shots(12), shots(1)), tmp_path / "r.json").trials
    assert result[0].request_tokens is not None and result[0].request_tokens <= 64
    assert result[0].message == "6 of 6 prompts pass 64 tokens: their farthest demonstrations were left out"
    assert result[1].message is None


def test_an_encoder_answers_by_similarity_and_refuses_demonstrations(tiny: Maker, data: Path, tmp_path: Path) -> None:
    from orrery.probes.runner import run

    folder = tiny("bert")
    spec = spec_of(folder, data, ZERO, shots(2))
    spec = spec.model_copy(update={"model": model_at(folder, "Encoder")})
    report = run(spec, tmp_path / "r.json")
    assert report.trials[0].outcome is Outcome.MEASURED
    assert report.trials[1].outcome is Outcome.UNSUPPORTED
    causal = spec.model_copy(update={"model": model_at(folder)})
    refused = run(causal, tmp_path / "r.json")
    assert refused.reason == "UnreadableModel" and "write Encoder" in (refused.error or "")


def test_no_trials_end_touches_another(tiny: Maker, data: Path, tmp_path: Path) -> None:
    import torch

    from orrery.probes.runner import measures, run

    path = tmp_path / "r.json"
    seen: list[int] = []

    def spoil(session: Session, trial: Trial) -> TrialResult:
        """Trains, fails, and leaves the model spoilt."""
        with torch.no_grad():
            for parameter in session.model.module.parameters():
                parameter.add_(1.0)
        raise RuntimeError("boom\nwith a second line")

    def memory(session: Session, trial: Trial) -> TrialResult:
        seen.append(len(json.loads(path.read_text())["trials"]))
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    def diverge(session: Session, trial: Trial) -> TrialResult:
        return TrialResult(name="other", outcome=Outcome.MEASURED, score=number(float("nan")))

    def unsupported(session: Session, trial: Trial) -> TrialResult:
        raise Unsupported("not here")

    strategies = {
        "ZeroShot": measures()["ZeroShot"],
        "Spoil": spoil,
        "Memory": memory,
        "Diverge": diverge,
        "Unsupported": unsupported,
    }
    names = ["ZeroShot", "Spoil", "Memory", "Diverge", "Unsupported", "Unknown", "ZeroShot"]
    trials = [{"name": f"t{i}", "strategy": name} for i, name in enumerate(names)]
    report = run(spec_of(tiny(), data, *trials), path, strategies=strategies)
    assert [t.outcome.value for t in report.trials] == [
        "Measured", "Failed", "OutOfMemory", "Diverged", "Unsupported", "Unsupported", "Measured",
    ]  # fmt: skip
    assert [t.name for t in report.trials] == [f"t{i}" for i in range(7)]
    assert report.trials[1].message == "RuntimeError: boom with a second line"
    assert "no strategy 'Unknown' is installed: there is " in (report.trials[5].message or "")
    assert report.trials[0].bits == report.trials[6].bits, "the spoilt weights were restored"
    assert seen == [2], "what was measured is on disk before the next trial"
    assert json.loads(path.read_text())["complete"] is True


def test_what_cannot_be_read_is_in_the_report(tiny: Maker, data: Path, tmp_path: Path) -> None:
    from orrery.probes.runner import run

    path = tmp_path / "r.json"
    no_data = run(spec_of(tiny(), tmp_path / "none.jsonl", ZERO), path)
    assert (no_data.reason, no_data.complete, no_data.trials) == ("PathNotFound", True, [])
    assert (no_data.error or "").startswith("task.dataset.source.local.path is '")
    no_model = run(spec_of(tmp_path / "gone", data, ZERO), path)
    assert no_model.reason == "PathNotFound"
    assert (no_model.error or "").startswith("models[tiny].source.local.path is '")
    (tmp_path / "empty").mkdir()
    unreadable = run(spec_of(tmp_path / "empty", data, ZERO), path)
    assert unreadable.reason == "UnreadableModel" and unreadable.task_facts is not None
    assert json.loads(path.read_text())["reason"] == "UnreadableModel"


def test_bad_parameters_are_refused_by_name(tiny: Maker, data: Path, tmp_path: Path) -> None:
    from orrery.probes.runner import run

    def with_parameter(name: str, value: str, strategy: str = "InContext") -> dict[str, Any]:
        return {"name": f"t{value}", "strategy": strategy, "parameters": [{"name": name, "value": value}]}

    trials = [
        with_parameter("shots", "-1"),
        with_parameter("retriever", "psychic"),
        with_parameter("calibration", "fortune"),
        with_parameter("rank", "8", "ZeroShot"),
        {**ZERO, "fidelity": {"evaluationItems": 6, "method": "Proxy"}},
        {
            **with_parameter("shots", "\u0663"),
            "name": "arabic",
        },  # a decimal to Python, and no number that a plan may write
    ]
    report = run(spec_of(tiny(), data, *trials), tmp_path / "r.json")
    assert [t.outcome for t in report.trials] == [Outcome.UNSUPPORTED] * 6
    messages = [t.message or "" for t in report.trials]
    assert messages[0] == "shots is '-1': write a whole number from 0 to 1024"
    assert messages[1] == "retriever is 'psychic': write one of random, bm25, dense"
    assert messages[2] == "calibration is 'fortune': write one of none, contextual"
    assert messages[3] == "ZeroShot has no parameter 'rank': write one of calibration"
    assert "trains nothing that Proxy could stand for" in messages[4]
    assert messages[5] == "shots is '\u0663': write a whole number from 0 to 1024"


def test_a_kept_pool_and_nearest_last(tiny: Maker, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from orrery.probes.data import read_task
    from orrery.probes.likelihood import Meter
    from orrery.probes.retrieval import demonstrations, pool_of
    from orrery.probes.session import Example

    model = load(tiny(), monkeypatch)
    train = read_task(local_task(data)).train
    assert pool_of(train, 5, 3) == pool_of(train, 0, 3)[:5] and pool_of(train, 5, 3) != pool_of(train, 5, 4)
    pool = [Example("red apple pie", "a"), Example("blue whale", "b"), Example("red apple", "c"), Example("sky", "d")]
    query = [Example("a red apple", "?")]
    shown = demonstrations(model, pool, query, 2, "bm25", Meter())[0]
    assert [e.target for e in shown] == ["a", "c"]
    meter = Meter()
    dense = demonstrations(model, [*pool, Example("a red apple", "same")], query, 3, "dense", meter)[0]
    assert dense[-1].target == "same" and meter.tokens > 0
    assert demonstrations(model, pool, query, 0, "dense", Meter()) == [()]
    assert len(demonstrations(model, pool, query, 99, "random", Meter())[0]) == 4
