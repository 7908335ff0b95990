"""Confirming, rendered manifests and reports on a real API server, with simulated probes."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from kubernetes import client

from orrery.planning.types import CONFIRMING_SEED
from tests.cluster import Cluster
from tests.integration.operators import Namespace, Operator, conditions, free_port, kstatus, plan
from tests.waiting import until

pytestmark = pytest.mark.integration
CONFIRM = {"mode": "Automatic", "budget": {"maxCost": "1"}}
LORA = {
    "name": "lora",
    "type": "LoRA",
    "grid": [{"name": n, "values": [v]} for n, v in (("rank", 4), ("learningRate", "1e-3"), ("epochs", 1))],
}


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_an_answer_is_confirmed_rendered_and_reported(
    simulating: Cluster, space: Namespace, kubernetes: client.ApiClient, tmp_path: Path
) -> None:
    space.prices("confirm")
    reports = free_port()
    own = {
        "ORRERY_OWN_NAMESPACE": space.namespace,
        "ORRERY_NAMESPACE": space.namespace,
        "ORRERY_REPORTS_PORT": str(reports),
    }
    with Operator(simulating.kubeconfig, tmp_path, **own) as operator:
        space.apply(plan(prices="confirm", models=("ok",), strategies=[LORA], confirm=CONFIRM))
        found = space.answered("plan", 120)
        # confirmed: one run more, of the recommended candidate, on its own money
        status, said = found["status"], conditions(found)["Confirmed"]
        told = status["confirmation"]
        mine = [p for p in space.probes() if p["spec"]["trials"][0].get("seed", 0) >= CONFIRMING_SEED]
        assert len(mine) == 1 and Decimal(told["spent"]) == Decimal(mine[0]["status"]["attempts"][0]["cost"]) > 0
        others = [a for p in space.probes() if p not in mine for a in p["status"]["attempts"]]
        assert Decimal(status["spend"]["cost"]) == sum(Decimal(a["cost"]) for a in others)
        assert Decimal(told["error"]) == Decimal(told["actual"]) - Decimal(told["predicted"])
        within = Decimal(told["lower"]) <= Decimal(told["actual"]) <= Decimal(told["upper"])
        assert said[:2] == (("True", "WithinInterval") if within else ("False", "OutsideInterval"))
        until(lambda: {"Confirmed", "OutsideInterval"} & set(space.events()), 10)
        label = f'{{namespace="{space.namespace}",plan="plan"}}'
        assert operator.metrics()[f"orrery_plan_prediction_error{label}"] == pytest.approx(float(told["error"]))

        # rendered: what GitOps can take is in the results object, and the API server takes the Job
        held = client.CoreV1Api(kubernetes).read_namespaced_config_map(status["resultsRef"], space.namespace).data
        job, train = yaml.safe_load(held["job.yaml"]), yaml.safe_load(held["trainjob.yaml"])
        assert job["spec"]["template"]["spec"]["containers"][0]["args"][0] == "train" and train["kind"] == "TrainJob"
        made = client.BatchV1Api(kubernetes).create_namespaced_job(space.namespace, job, dry_run="All")
        assert made.spec.template.spec.volumes[-1].persistent_volume_claim.claim_name == "trained-models"

        # reported: by the operator, and to whoever may read the objects
        code, page = get(reports, f"/reports/{space.namespace}/plan")
        assert code == 200 and "<!doctype html>" in page.lower() and "lora" in page
        code, index = get(reports, "/reports")
        assert code == 200 and f'href="/reports/{space.namespace}/plan"' in index
        hostile = "/reports/x/%3Cscript%3Ealert(1)"
        code, _answer = get(reports, hostile)
        assert code == 404 and get(reports, "/reports/../etc")[0] == 404 and get(reports, "/")[0] == 404
        command = [sys.executable, "-m", "orrery", "report", "plan", "-n", space.namespace, "-o", "-"]
        environment = {**os.environ, "KUBECONFIG": str(simulating.kubeconfig)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0 and done.stdout.startswith(page[:200]), done.stderr
        command[4] = "nobody"
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 2 and "there is no AdaptationPlan 'nobody'" in done.stderr

        # a probe that was paid for and deleted stays paid
        space.custom.delete_namespaced_custom_object(
            "orrery.dev", "v1alpha1", space.namespace, "adaptationprobes", mine[0]["metadata"]["name"]
        )
        again = until(
            lambda: (
                (p := space.plan()) and Decimal(p["status"]["confirmation"]["spent"]) > Decimal(told["spent"]) and p
            ),
            60,
        )
        assert Decimal(again["status"]["confirmation"]["deletedCost"]) == Decimal(told["spent"])
        until(lambda: kstatus(space.plan()) == "Current", 60)
        # confirming can be turned off
        space.edit("plan", {"confirm": {"mode": "Never"}})
        until(
            lambda: (p := space.plan()) and p["status"]["observedGeneration"] == 2 and "Confirmed" not in conditions(p),
            30,
        )


def test_a_plan_that_prompts_has_its_prompt_and_no_port_is_open_unasked(
    operator: Operator, space: Namespace, kubernetes: client.ApiClient
) -> None:
    space.prices("confirm")
    space.apply(plan(prices="confirm"))
    status = space.answered("plan", 90)["status"]
    held = client.CoreV1Api(kubernetes).read_namespaced_config_map(status["resultsRef"], space.namespace).data
    assert set(held) == {"summary.json", "configmap.yaml", "job.yaml"}
    prompt = yaml.safe_load(held["configmap.yaml"])
    client.CoreV1Api(kubernetes).create_namespaced_config_map(space.namespace, prompt, dry_run="All")
    assert "demonstrations" not in prompt["data"]["prompt.json"], "nobody's data is in it"
    assert get(operator.metrics_port, f"/reports/{space.namespace}/plan")[0] == 404
