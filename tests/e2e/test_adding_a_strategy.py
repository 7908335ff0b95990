"""The example strategy before a real model and real data: `orrery run` finds it, probes it, and recommends it where it is better."""

import json
import os
import subprocess
import sys

import pytest

from tests.plugin import EXAMPLE, installed

pytestmark = pytest.mark.e2e


def test_the_example_strategy_is_probed_and_beats_zero_shot(builtin_assets, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(installed(tmp_path / "site"))}
    done = subprocess.run(
        [sys.executable, "-m", "orrery", "run", str(EXAMPLE / "plan.yaml"), "-o", "json"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)["status"]
    best = status["recommendation"]
    assert best["strategy"] == "neighbours" and best["measured"] is True
    rivals = {rival["strategy"]: float(rival["quality"]["predicted"]) for rival in status["alternatives"]}
    assert float(best["quality"]["predicted"]) > rivals["zero-shot"] + 0.05
    assert float(best["cost"]["adaptation"]) > 0 and float(best["cost"]["serving"]) > 0
