"""Scores of models of random weights: what must hold for any model holds for these."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.conftest import Maker
from tests.models.specs import ZERO, load, shots, spec_of
from tests.models.tiny_models import save_tiny
from tests.unit.probes.tasks import local_task, write_jsonl

pytestmark = pytest.mark.model


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


def test_prompts_that_are_too_long_lose_their_farthest_demonstrations_and_say_so(
    tiny: Maker, data: Path, tmp_path: Path
) -> None:
    from orrery.probes.runner import run

    folder = tiny("llama", max_position_embeddings=64)
    result = run(spec_of(folder, data, shots(12), shots(1)), tmp_path / "r.json").trials
    assert result[0].request_tokens is not None and result[0].request_tokens <= 64
    assert result[0].message == "6 of 6 prompts pass 64 tokens: their farthest demonstrations were left out"
    assert result[1].message is None


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
