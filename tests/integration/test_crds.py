"""The definitions on a real API server: what it takes, refuses, fills in, explains and shows.

Rules in CEL are not here: a server older than 1.25 drops them in silence. tests/unit/api evaluates them.
"""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from orrery.api import yamltext
from orrery.api.base import GROUP, VERSION
from orrery.api.load import parse
from tests.cluster import Cluster, ExternalCluster
from tests.cluster.crds import install_crds
from tests.unit.api.manifests import BAD_PLANS, PLAN, PRICES, PROBE, changed
from tests.waiting import until

pytestmark = pytest.mark.integration

CRDS = Path(__file__).parents[2] / "crds"


@pytest.fixture(scope="module")
def defined(api_server: Cluster | ExternalCluster) -> None:
    with config.new_client_from_config(str(api_server.kubeconfig)) as api_client:
        install_crds(api_client, CRDS)


@pytest.fixture
def objects(defined: None, kubernetes: client.ApiClient) -> client.CustomObjectsApi:
    return client.CustomObjectsApi(kubernetes)


def put(objects: client.CustomObjectsApi, namespace: str, plural: str, manifest: dict[str, Any]) -> dict[str, Any]:
    body = copy.deepcopy(manifest)
    body["metadata"].pop("namespace", None)
    made: dict[str, Any] = objects.create_namespaced_custom_object(GROUP, VERSION, namespace, plural, body)
    return made


def kubectl(server: Cluster | ExternalCluster, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """kubectl's answer. Discovery follows a definition that was just established by a moment, so what it lacks is asked again."""
    command = [str(server.programs.kubectl), "--kubeconfig", str(server.kubeconfig), *arguments]

    def answer() -> subprocess.CompletedProcess[str] | None:
        told = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
        unknown = ("the server doesn't have a resource type", "no matches for kind", "couldn't find resource for")
        return None if any(words in told.stderr for words in unknown) else told

    told: subprocess.CompletedProcess[str] = until(answer, 60, every=0.5, what=" ".join(arguments))
    return told


def test_a_good_plan_is_stored_with_its_defaults(objects: client.CustomObjectsApi, namespace: str) -> None:
    stored = put(objects, namespace, "adaptationplans", PLAN)
    spec = stored["spec"]
    assert spec["suspend"] is False
    assert spec["probing"] == {
        "parallelism": 4,
        "maxProbes": 64,
        "evaluationItems": 200,
        "fidelities": [16, 64, 256],
        "seed": 0,
        "seeds": 1,
        "retries": 1,
        "deadlineSeconds": 1800,
        "predictor": "Ensemble",
        "designer": "ExpectedValue",
    }
    assert spec["task"]["dataset"]["splits"]["evaluation"] == "validation"
    assert spec["objective"]["confidence"] == "0.9"
    assert spec["accelerators"][0]["capacityType"] == "OnDemand"
    assert spec["strategies"][2]["grid"][1]["values"] == [8, "16"]
    assert parse(stored).spec == parse(PLAN).spec, "what is stored means what its author wrote"


@pytest.mark.parametrize(
    ("path", "value", "sentence", "by"),
    [bad for bad in BAD_PLANS if bad[3] != "rule"],
    ids=[f"{bad[0]}={bad[1]!r}"[:70] for bad in BAD_PLANS if bad[3] != "rule"],
)
def test_a_bad_plan_is_refused(objects: client.CustomObjectsApi, path: str, value: Any, sentence: str, by: str) -> None:
    with pytest.raises(client.ApiException) as caught:
        put(objects, "default", "adaptationplans", changed(PLAN, path, value))
    assert caught.value.status == 422
    causes = json.loads(caught.value.body)["details"]["causes"]
    top = path.split(".")[1]
    assert any(top in cause.get("field", "") for cause in causes), causes


def test_probes_and_prices_are_stored(
    objects: client.CustomObjectsApi, kubernetes: client.ApiClient, namespace: str
) -> None:
    assert parse(put(objects, namespace, "adaptationprobes", PROBE)).spec == parse(PROBE).spec
    prices = changed(PRICES, "metadata.name", f"lab-{namespace}")
    stored = objects.create_cluster_custom_object(GROUP, VERSION, "pricelists", prices)
    try:
        assert parse(stored).spec == parse(PRICES).spec
        assert stored["spec"]["accelerators"][1]["capacityType"] == "OnDemand"
        twice = changed(prices, "spec.accelerators.+", {"name": "cpu", "pricePerHour": "0.20"})
        twice["metadata"]["name"] += "-twice"
        with pytest.raises(client.ApiException) as caught:
            objects.create_cluster_custom_object(GROUP, VERSION, "pricelists", twice)
        assert caught.value.status == 422 and "Duplicate value" in caught.value.body
    finally:
        objects.delete_cluster_custom_object(GROUP, VERSION, "pricelists", prices["metadata"]["name"])


def test_spec_and_status_are_written_apart(objects: client.CustomObjectsApi, namespace: str) -> None:
    with_status = {**PLAN, "status": {"phase": "Answered"}}
    stored = put(objects, namespace, "adaptationplans", with_status)
    assert "status" not in stored, "whoever writes a plan does not write its answer"
    status = {"phase": "Probing", "observedGeneration": 1, "progress": {"planned": 3}}
    answered = objects.patch_namespaced_custom_object_status(
        GROUP, VERSION, namespace, "adaptationplans", "intents", {"status": status, "spec": {"suspend": True}}
    )
    assert answered["status"] == status, "nothing is filled in beside what was written"
    assert answered["spec"]["suspend"] is False
    assert answered["metadata"]["generation"] == 1
    spec = objects.patch_namespaced_custom_object(
        GROUP,
        VERSION,
        namespace,
        "adaptationplans",
        "intents",
        {"spec": {"suspend": True}, "status": {"phase": "Failed"}},
    )
    assert spec["status"]["phase"] == "Probing" and spec["metadata"]["generation"] == 2
    with pytest.raises(client.ApiException) as caught:
        objects.patch_namespaced_custom_object_status(
            GROUP, VERSION, namespace, "adaptationplans", "intents", {"status": {"phase": "Fine"}}
        )
    assert caught.value.status == 422


def test_kubectl_shows_the_answer_in_a_line(
    api_server: Cluster | ExternalCluster, objects: client.CustomObjectsApi, namespace: str
) -> None:
    put(objects, namespace, "adaptationplans", PLAN)
    put(objects, namespace, "adaptationprobes", PROBE)
    quality = {"predicted": "0.91", "lower": "0.88", "upper": "0.93"}
    cost = {"adaptation": "0.2", "serving": "41", "total": "41.2", "lower": "39", "upper": "44"}
    choice = {"model": "minilm", "strategy": "lora", "accelerator": "cpu", "quality": quality, "cost": cost}
    said = {"reason": "AnswerSettled", "message": "minilm with lora."}
    answer = {
        "phase": "Answered",
        "conditions": [{"type": "Ready", "status": "True", **said}, {"type": "Reconciling", "status": "False", **said}],
        "spend": {"currency": "USD", "cost": "0.31", "reserved": "0", "acceleratorSeconds": "55"},
        "recommendation": {**choice, "measured": False, "confidence": "0.97", "reason": "Cheapest", "message": "x."},
    }
    objects.patch_namespaced_custom_object_status(
        GROUP, VERSION, namespace, "adaptationplans", "intents", {"status": answer}
    )
    attempt = {"number": 1, "jobName": "a", "phase": "Failed", "reserved": "0.1", "cost": "0.1", "seconds": "9"}
    attempts = [attempt, {**attempt, "number": 2, "phase": "Succeeded", "cost": "0.2", "seconds": "31.5"}]
    objects.patch_namespaced_custom_object_status(
        GROUP,
        VERSION,
        namespace,
        "adaptationprobes",
        "probe-1",
        {"status": {"phase": "Succeeded", "attempts": attempts}},
    )
    head, line = kubectl(api_server, "-n", namespace, "get", "aplan").stdout.splitlines()
    assert head.split() == ["NAME", "PHASE", "MODEL", "STRATEGY", "QUALITY", "COST", "SPENT", "REASON", "AGE"]
    assert line.split()[:8] == ["intents", "Answered", "minilm", "lora", "0.91", "41.2", "0.31", "AnswerSettled"]
    wide = kubectl(api_server, "-n", namespace, "get", "aplan", "-o", "wide").stdout
    assert "2.50" in wide and "minilm with lora." in wide
    head, line = kubectl(api_server, "-n", namespace, "get", "aprobe").stdout.splitlines()
    assert head.split() == ["NAME", "PHASE", "MODEL", "TRIALS", "SECONDS", "COST", "REASON", "AGE"]
    assert line.split()[:6] == ["probe-1", "Succeeded", "smollm2-135m", "InContext", "31.5", "0.2"]
    both = kubectl(api_server, "-n", namespace, "get", "orrery", "-o", "name").stdout
    assert "adaptationplan.orrery.dev/intents" in both and "adaptationprobe.orrery.dev/probe-1" in both


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("aplan", "which model, adapted how"),
        ("aplan.spec.objective.confidence", "Probability with which constraints hold"),
        ("aplan.spec.strategies.grid.values", "numbers with a fraction as strings"),
        ("aplan.status.recommendation.quality.lower", "5th percentile"),
        ("aprobe.spec.trials.fidelity.trainingExamples", "Examples trained on"),
        ("plist.spec.accelerators.pricePerHour", "For one accelerator"),
    ],
)
def test_kubectl_explains(
    api_server: Cluster | ExternalCluster, objects: client.CustomObjectsApi, path: str, words: str
) -> None:
    told = kubectl(api_server, "explain", path)
    assert words in " ".join(told.stdout.split()), told.stdout + told.stderr


def test_kubectl_apply_takes_what_we_write_and_changes_nothing_twice(
    api_server: Cluster | ExternalCluster, objects: client.CustomObjectsApi, namespace: str
) -> None:
    text = yamltext.write(
        parse(changed(PLAN, "metadata.namespace", namespace)).to_wire()
        | {"metadata": {"name": "intents", "namespace": namespace}}
    )
    first = kubectl(api_server, "apply", "-f", "-", stdin=text)
    assert first.stdout.strip() == "adaptationplan.orrery.dev/intents created", first.stderr
    again = kubectl(api_server, "apply", "-f", "-", stdin=text)
    assert again.stdout.strip() == "adaptationplan.orrery.dev/intents unchanged", again.stderr
    typo = kubectl(api_server, "apply", "-f", "-", stdin=text.replace("maxProbeCost", "maxProbCost"))
    assert typo.returncode != 0 and "maxProb" in typo.stderr
