"""`orrery run` as a user runs it: a real encoder on real utterances, killed on the way, answered and confirmed in the end."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from orrery.api import yamltext
from orrery.api.catalogue import MODELS, TASKS
from orrery.api.load import load
from orrery.api.probe import trial_key
from orrery.local.store import Store
from orrery.probes.assets import location
from tests.waiting import PATIENCE, crowding

pytestmark = pytest.mark.e2e

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "intents" / "plan.yaml"


@pytest.fixture(scope="module", autouse=True)
def _assets():
    needed = [MODELS["all-minilm-l6-v2"], TASKS["bigbench/intent_recognition"]]
    if not all(location(asset).exists() for asset in needed):
        subprocess.run([sys.executable, "-m", "orrery", "assets", "fetch"], check=True)


def small_plan(path, name="small", **spec):
    """The example with the encoder alone and little of everything: seconds a probe."""
    plan, prices = yamltext.read(EXAMPLE.read_text())
    plan["metadata"]["name"] = name
    plan["spec"] |= {
        "models": [plan["spec"]["models"][1]],
        "strategies": [
            {"name": "zero-shot", "type": "ZeroShot"},
            {
                "name": "lora",
                "type": "LoRA",
                "grid": [
                    {"name": "rank", "values": [4, 8]},
                    {"name": "epochs", "values": [1]},
                    {"name": "learningRate", "values": ["1e-3"]},
                    {"name": "dataPercent", "values": [10, 20]},
                ],
            },
        ],
        "objective": {"goal": "MaximizeQuality", "maxTotalCost": "100"},
        "budget": {"maxProbeCost": "0.05"},
        "probing": {
            "parallelism": 2,
            "evaluationItems": 40,
            "fidelities": [8, 16],
            "deadlineSeconds": 300,
            "maxProbes": 6,
        },
        **spec,
    }
    path.write_text(yamltext.write(plan) + "---\n" + yamltext.write(prices))
    return path


def command(plan, *options):
    return [sys.executable, "-P", "-m", "orrery", "run", str(plan), "-o", "json", *options]


def run(plan, *options, cwd):
    done = subprocess.run(command(plan, *options), cwd=cwd, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def orrery(cwd, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-P", "-m", "orrery", *arguments],
        cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


def measured(state):
    """Key of every measurement that any attempt reported, as often as it was reported."""
    keys = []
    for path in state.glob("probes/*/attempt-*/report.json"):
        spec = load([path.parent / "spec.yaml"]).probes[0].spec
        told = {result["name"] for result in json.loads(path.read_text()).get("trials", [])}
        keys += [trial_key(spec.model, spec.task, t, spec.accelerator) for t in spec.trials if t.name in told]
    return keys


@dataclass(frozen=True)
class Answered:
    """A plan that was killed twice and answered in the end, and what its probes had measured by then."""

    folder: Path
    plan: Path
    document: dict[str, Any]
    keys: list[str]

    @property
    def state(self) -> Path:
        return self.folder / ".orrery" / "default" / "small"

    @property
    def status(self) -> dict[str, Any]:
        return self.document["status"]


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Answered:
    """Real probes take seconds to start, so that one answer serves every test that reads it."""
    folder = tmp_path_factory.mktemp("answered")
    confirm = {"mode": "Automatic", "budget": {"maxCost": "0.05"}}
    plan = small_plan(folder / "plan.yaml", confirm=confirm)
    state = folder / ".orrery" / "default" / "small"
    generator = random.Random(7)
    for _ in range(2):
        process = subprocess.Popen(
            command(plan), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        limit = time.monotonic() + 120 * PATIENCE
        while process.poll() is None and not list(state.glob("probes/*/attempt-*/started.json")):
            assert time.monotonic() < limit, "no probe was started"
            time.sleep(0.05)
        time.sleep(generator.uniform(0, 6))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    document = run(plan, cwd=folder)
    return Answered(folder, plan, document, measured(state))


def test_killed_on_the_way_it_answers_in_the_end_and_measures_nothing_twice(answered):
    status, keys = answered.status, answered.keys
    assert status["phase"] == "Answered"
    assert status["recommendation"]["model"] == "minilm"
    assert float(status["spend"]["cost"]) <= 0.05 and status["spend"]["reserved"] == "0"
    assert keys and len(set(keys)) == len(keys), "a measurement was paid for twice"
    records = Store(answered.state).records()
    assert len(records) == status["progress"]["succeeded"]
    assert Decimal(status["spend"]["cost"]) == sum(r.cost for r in records if not r.confirming)


def test_its_answer_is_confirmed_by_a_full_run_of_its_own_budget(answered):
    told = answered.status["confirmation"]
    (confirming,) = [r for r in Store(answered.state).records() if r.confirming]
    assert Decimal(told["spent"]) == confirming.cost and Decimal(told["spent"]) <= Decimal("0.05")
    # all of the evaluation split, not the plan's 40 items
    assert told["items"] > 40 and 0 <= float(told["actual"]) <= 1
    assert Decimal(told["error"]) == Decimal(told["actual"]) - Decimal(told["predicted"])
    (said,) = [c for c in answered.status["conditions"] if c["type"] == "Confirmed"]
    within = Decimal(told["lower"]) <= Decimal(told["actual"]) <= Decimal(told["upper"])
    assert (said["status"], said["reason"]) == (("True", "WithinInterval") if within else ("False", "OutsideInterval"))
    print(json.dumps(told))


def test_asked_again_it_knows(answered):
    began = time.monotonic()
    assert run(answered.plan, cwd=answered.folder) == answered.document
    assert time.monotonic() - began < 60 * crowding() and measured(answered.state) == answered.keys


def test_another_plan_with_another_budget_decides_from_the_same_measurements(answered):
    other = small_plan(answered.folder / "other.yaml", name="other", budget={"maxProbeCost": "0.04"})
    status = run(other, cwd=answered.folder)["status"]
    assert status["progress"]["reused"] > 0
    assert not set(measured(answered.folder / ".orrery" / "default" / "other")) & set(answered.keys)


def test_the_state_explains_itself(answered):
    shown = orrery(answered.folder, "explain", str(answered.state), "zero-shot")
    assert shown.returncode == 0, shown.stderr
    assert "measured on minilm" in shown.stdout and "ZeroShot" in shown.stdout


def test_the_recommendation_is_rendered_and_trained_as_its_job_would(answered, tmp_path):
    assert answered.status["recommendation"]["strategy"] == "lora"
    made = orrery(answered.folder, "render", "plan.yaml", "--image", "registry.example.com/orrery-probe:1")
    assert made.returncode == 0, made.stderr
    job = yaml.safe_load(made.stdout)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    spec = next(e["value"] for e in container["env"] if e["name"] == "ORRERY_PROBE_SPEC")
    done = orrery(tmp_path, "train", "--output", str(tmp_path / "trained"), ORRERY_PROBE_SPEC=spec)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kind"] == "adapter"
    assert (tmp_path / "trained" / "adapter" / "adapter_model.safetensors").exists()
    refused = orrery(answered.folder, "render", "plan.yaml", "--format", "configmap")
    assert refused.returncode == 2 and "lora trains weights" in refused.stderr


def test_interrupted_by_ctrl_c_it_reports_what_it_has(tmp_path):
    plan = small_plan(tmp_path / "plan.yaml")
    state = tmp_path / ".orrery" / "default" / "small"
    process = subprocess.Popen(
        command(plan),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # tests that a shell started in the background ignore SIGINT, and so would what they start
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    limit = time.monotonic() + 120 * PATIENCE
    while process.poll() is None and not list(state.glob("probes/*/attempt-*/started.json")):
        assert time.monotonic() < limit, "no probe was started"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60 * PATIENCE)
    assert process.returncode == 3, err
    status = json.loads(out)["status"]
    assert status["spend"]["reserved"] == "0" and float(status["spend"]["cost"]) > 0
    assert "run again to go on" in err and "Traceback" not in err
