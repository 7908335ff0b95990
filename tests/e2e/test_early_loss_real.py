"""A grid of real trainings ranked by the first tenth of each: what a plan with `probing.designer: EarlyLoss` does."""

import json

import pytest

from orrery.api.load import load
from tests.e2e.test_run_real import run, small_plan

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("builtin_assets")]

RATES = ["1e-4", "1e-3", "1e-1"]  # the last one breaks the model


def test_a_real_grid_is_begun_and_the_best_of_it_trained(tmp_path):
    grid = [
        {"name": "rank", "values": [4, 8]},
        {"name": "epochs", "values": [3]},
        {"name": "learningRate", "values": RATES},
    ]
    plan = small_plan(
        tmp_path / "plan.yaml",
        strategies=[
            {"name": "zero-shot", "type": "ZeroShot"},
            {"name": "lora", "type": "LoRA", "grid": grid},
        ],
        budget={"maxProbeCost": "1"},
        probing={"designer": "EarlyLoss", "evaluationItems": 100, "deadlineSeconds": 300, "maxProbes": 12},
    )
    status = run(plan, cwd=tmp_path)["status"]
    early, whole = [], []
    for path in (tmp_path / ".orrery" / "default" / "small").glob("probes/*/attempt-*/report.json"):
        spec = load([path.parent / "spec.yaml"]).probes[0].spec
        told = {t["name"]: t for t in json.loads(path.read_text())["trials"]}
        for trial in (t for t in spec.trials if t.strategy == "LoRA"):
            rate = next(p.value for p in trial.parameters if p.name == "learningRate")
            kept = early if trial.fidelity.schedule_percent == 10 else whole
            kept.append((rate, told[trial.name]))
    assert len(early) == 6 and all(t["outcome"] == "Measured" and "score" not in t for _, t in early)
    losses = {rate: [float(t["trainLoss"][-1]) for r, t in early if float(r) == float(rate)] for rate in RATES}
    assert min(losses["1e-1"]) > max(losses["1e-3"] + losses["1e-4"]), "ten steps tell that this rate breaks the model"
    (promoted,) = whole
    assert float(promoted[0]) < 0.1 and float(promoted[1]["score"]) > 0.85
    tokens = [t["trainTokens"] for _, t in early]
    assert max(tokens) < 0.5 * promoted[1]["trainTokens"], "an encoder reads all examples once, to fit its head"
    answer = status["recommendation"]
    assert status["phase"] == "Answered" and answer["measured"] and answer["strategy"] == "lora"
    assert 0.8 < float(answer["quality"]["predicted"]) <= 1
