"""A real answer, confirmed by a real full run, rendered as a Job whose training is run as the Job would run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from orrery.local.store import Store
from tests.e2e.test_run_real import run, small_plan

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("builtin_assets")]
LORA = {
    "name": "lora",
    "type": "LoRA",
    "grid": [
        {"name": n, "values": [v]}
        for n, v in (("rank", 4), ("epochs", 1), ("learningRate", "1e-3"), ("dataPercent", 20))
    ],
}


def orrery(cwd: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "orrery", *arguments],
        cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


def test_a_real_answer_is_confirmed_and_trained_from_its_manifest(tmp_path: Path) -> None:
    confirm: dict[str, Any] = {"mode": "Automatic", "budget": {"maxCost": "0.05"}}
    file = small_plan(tmp_path / "plan.yaml", strategies=[LORA], confirm=confirm)
    status = run(file, cwd=tmp_path)["status"]
    told = status["confirmation"]
    state = tmp_path / ".orrery" / "default" / "small"
    records = Store(state).records()
    (confirming,) = [r for r in records if r.confirming]
    assert Decimal(told["spent"]) == confirming.cost and Decimal(told["spent"]) <= Decimal("0.05")
    assert Decimal(status["spend"]["cost"]) == sum(r.cost for r in records if not r.confirming)
    # all of the evaluation split, not the plan's 40 items
    assert told["items"] > 40 and 0 <= float(told["actual"]) <= 1
    assert Decimal(told["error"]) == Decimal(told["actual"]) - Decimal(told["predicted"])
    (said,) = [c for c in status["conditions"] if c["type"] == "Confirmed"]
    within = Decimal(told["lower"]) <= Decimal(told["actual"]) <= Decimal(told["upper"])
    assert (said["status"], said["reason"]) == (("True", "WithinInterval") if within else ("False", "OutsideInterval"))
    print(json.dumps(told))
    # asked again, nothing runs again
    assert run(file, cwd=tmp_path)["status"]["confirmation"] == told

    made = orrery(tmp_path, "render", "plan.yaml", "--image", "registry.example.com/orrery-probe:1")
    assert made.returncode == 0, made.stderr
    job = yaml.safe_load(made.stdout)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    spec = next(e["value"] for e in container["env"] if e["name"] == "ORRERY_PROBE_SPEC")
    done = orrery(tmp_path, "train", "--output", str(tmp_path / "trained"), ORRERY_PROBE_SPEC=spec)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kind"] == "adapter"
    assert (tmp_path / "trained" / "adapter" / "adapter_model.safetensors").exists()
    refused = orrery(tmp_path, "render", "plan.yaml", "--format", "configmap")
    assert refused.returncode == 2 and "lora trains weights" in refused.stderr
