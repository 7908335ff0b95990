"""`orrery run` as a user runs it: a real encoder on real utterances, killed on the way, answered in the end."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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


def measured(state):
    """Key of every measurement that any attempt reported, as often as it was reported."""
    keys = []
    for path in state.glob("probes/*/attempt-*/report.json"):
        spec = load([path.parent / "spec.yaml"]).probes[0].spec
        told = {result["name"] for result in json.loads(path.read_text()).get("trials", [])}
        keys += [trial_key(spec.model, spec.task, t, spec.accelerator) for t in spec.trials if t.name in told]
    return keys


def test_killed_on_the_way_it_answers_in_the_end_and_measures_nothing_twice(tmp_path):
    plan = small_plan(tmp_path / "plan.yaml")
    state = tmp_path / ".orrery" / "default" / "small"
    generator = random.Random(7)
    for _ in range(2):
        process = subprocess.Popen(
            command(plan), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        limit = time.monotonic() + 120 * PATIENCE
        while process.poll() is None and not list(state.glob("probes/*/attempt-*/started.json")):
            assert time.monotonic() < limit, "no probe was started"
            time.sleep(0.05)
        time.sleep(generator.uniform(0, 6))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    answered = run(plan, cwd=tmp_path)
    status = answered["status"]
    assert status["phase"] == "Answered"
    assert status["recommendation"]["model"] == "minilm"
    assert float(status["spend"]["cost"]) <= 0.05 and status["spend"]["reserved"] == "0"
    keys = measured(state)
    assert keys and len(set(keys)) == len(keys), "a measurement was paid for twice"
    # Asked again, it knows.
    began = time.monotonic()
    assert run(plan, cwd=tmp_path) == answered
    assert time.monotonic() - began < 60 * crowding() and measured(state) == keys
    # Another plan with another budget decides from the same measurements.
    other = run(small_plan(tmp_path / "other.yaml", name="other", budget={"maxProbeCost": "0.04"}), cwd=tmp_path)
    assert other["status"]["progress"]["reused"] > 0
    assert not set(measured(tmp_path / ".orrery" / "default" / "other")) & set(keys)
    # And the state explains itself.
    shown = subprocess.run(
        [sys.executable, "-P", "-m", "orrery", "explain", str(state), "zero-shot"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "measured on minilm" in shown and "ZeroShot" in shown
    assert len(Store(state).records()) == status["progress"]["succeeded"]


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
