"""One probe from its spec to its report, with models of random weights."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orrery.api.probe import Outcome, Report, Trial, TrialResult, probe_name
from orrery.planning.advance import advance
from orrery.planning.types import ProbeRecord, ProbeState
from orrery.probes.report import number
from orrery.probes.session import Session, Unsupported
from tests.models.conftest import Maker
from tests.models.specs import ZERO, model_at, shots, spec_of
from tests.unit.planning.world import make_plan, make_prices

pytestmark = pytest.mark.model


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

    found = quantized.importlib.util.find_spec
    without = lambda name, *package: None if name == "bitsandbytes" else found(name, *package)  # noqa: E731
    monkeypatch.setattr(quantized.importlib.util, "find_spec", without)
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
    said = {(r.status, r.reason.partition(". Worse than the model as it is")[0]) for r in rows}  # a remark may follow
    assert said == {("Rejected", f"QLoRA does not run here: {reason}")}


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
