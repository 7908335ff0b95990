"""`kubectl orrery watch` as a person has it: the plugin, by the real kubectl, on a real cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.integration.operators import Namespace, Operator, plan

pytestmark = pytest.mark.integration

#: The script that kubectl looks for on PATH.
PLUGIN = str(Path(sys.executable).with_name("kubectl-orrery"))


def test_kubectl_orrery_watches_a_plan_to_its_answer(operator: Operator, simulating: Cluster, space: Namespace) -> None:
    space.prices("watched")
    space.apply(plan(prices="watched", models=("sleep-4",)))
    path = f"{Path(PLUGIN).parent}:{os.environ['PATH']}"
    env = {**os.environ, "KUBECONFIG": str(simulating.kubeconfig), "PATH": path}
    kubectl = simulating.programs.kubectl

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [kubectl, "orrery", *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=600)

    done = run("watch", "plan", "--namespace", space.namespace)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert any(probe["state"] == "running" for line in lines for probe in line["probes"])
    last, told = lines[-1], space.answered()["status"]
    assert (last["phase"], last["spent"]) == ("Answered", told["spend"]["cost"]) and last["settled"]
    everywhere = run("watch", "--all", "--once")
    assert any(json.loads(line)["namespace"] == space.namespace for line in everywhere.stdout.splitlines())
    missing = run("watch", "nobody", "-n", space.namespace)
    assert missing.returncode == 2 and f"no AdaptationPlan 'nobody' in namespace {space.namespace}" in missing.stderr
    explained = run("explain", "plan", "zero-shot", "--namespace", space.namespace)
    assert explained.returncode == 0 and "m0/zero-shot" in explained.stdout, explained.stderr
    unknown = run("explain", "nobody", "--namespace", space.namespace)
    assert unknown.returncode == 2 and "there is no AdaptationPlan 'nobody'" in unknown.stderr
    rendered = run("render", "plan", "--namespace", space.namespace, "--format", "job")
    assert rendered.returncode == 0 and "kind: Job" in rendered.stdout, rendered.stderr
    assert run("--help").stdout.startswith("Usage: kubectl orrery ")
    # as kubectl asks its plugins for completions
    asked = subprocess.run(
        [str(Path(PLUGIN).with_name("kubectl_complete-orrery")), "watch", "-n", space.namespace, "pl"],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert asked.stdout.split() == ["plan", ":4"], asked.stderr
