"""The chart and the Kustomize bases on a real API server: Helm installs, the authorizer decides, definitions stay."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
from kubernetes import client

from orrery.api.base import GROUP, VERSION
from tests.cluster import Cluster, ExternalCluster
from tests.cluster.crds import install_crds
from tests.unit.api.manifests import PLAN, changed

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "orrery"
CRDS = tuple(
    f"{plural}.orrery.dev" for plural in ("adaptationplans", "adaptationprobes", "adaptationbudgets", "pricelists")
)


@pytest.fixture
def own_server(api_server: Cluster | ExternalCluster) -> Cluster:
    if not isinstance(api_server, Cluster):
        pytest.skip("installs and removes definitions, and KUBECONFIG names a cluster that is not ours")
    return api_server


@pytest.fixture
def bare(own_server: Cluster, kubernetes: client.ApiClient) -> Iterator[client.ApiextensionsV1Api]:
    """A server without our definitions before, and with plain ones after."""
    definitions = client.ApiextensionsV1Api(kubernetes)
    for name in CRDS:
        kubectl(own_server, "delete", "crd", name, "--ignore-not-found", "--wait=true")
    yield definitions
    for name in CRDS:
        kubectl(own_server, "delete", "crd", name, "--ignore-not-found", "--wait=true")
    install_crds(kubernetes, ROOT / "crds")


def kubectl(server: Cluster, *arguments: str) -> str:
    command = [str(server.programs.kubectl), "--kubeconfig", str(server.kubeconfig), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}"
    return done.stdout


def may(kubernetes: client.ApiClient, account: str, verb: str, what: str, namespace: str) -> bool:
    """Whether the real authorizer lets a service account do something; ``what`` is RESOURCE[/SUBRESOURCE][.GROUP]."""
    resource, _, group = what.partition(".")
    resource, _, subresource = resource.partition("/")
    attributes = {"verb": verb, "resource": resource, "group": group, "namespace": namespace}
    if subresource:
        attributes["subresource"] = subresource
    if what.startswith("leases") and verb != "create":
        attributes["name"] = "orrery-operator"
    groups = ["system:serviceaccounts", "system:authenticated"]
    review = {"spec": {"user": account, "groups": groups, "resourceAttributes": attributes}}
    api = client.AuthorizationV1Api(kubernetes)
    return bool(api.create_subject_access_review(review).status.allowed)


ALLOWED = [
    *[(verb, "adaptationplans.orrery.dev") for verb in ("get", "list", "watch", "delete")],
    ("update", "adaptationplans/status.orrery.dev"),
    *[(verb, "adaptationprobes.orrery.dev") for verb in ("get", "list", "watch", "create", "patch")],
    ("update", "adaptationprobes/status.orrery.dev"),
    *[(verb, "adaptationbudgets.orrery.dev") for verb in ("get", "list", "watch")],
    ("update", "adaptationbudgets/status.orrery.dev"),
    *[(verb, "jobs.batch") for verb in ("get", "list", "watch", "create", "delete")],
    *[(verb, "pods") for verb in ("list", "watch")],
    ("list", "workloads.kueue.x-k8s.io"),
    *[(verb, "configmaps") for verb in ("get", "create", "update")],
    *[(verb, "events") for verb in ("create", "list")],
]
REFUSED = [
    ("get", "secrets"),
    ("list", "secrets"),
    ("create", "pods"),
    ("delete", "pods"),
    ("create", "pods/exec"),
    ("get", "pods/log"),
    ("create", "adaptationplans.orrery.dev"),
    ("update", "adaptationplans.orrery.dev"),
    ("update", "pricelists.orrery.dev"),
    *[(verb, "adaptationbudgets.orrery.dev") for verb in ("create", "update", "patch", "delete")],
    ("update", "jobs.batch"),
    ("patch", "jobs.batch"),
    ("deletecollection", "jobs.batch"),
    ("delete", "configmaps"),
    ("list", "configmaps"),
    ("delete", "events"),
    ("create", "serviceaccounts"),
    ("create", "serviceaccounts/token"),
    ("create", "rolebindings.rbac.authorization.k8s.io"),
    ("create", "deployments.apps"),
    ("list", "nodes"),
    ("list", "namespaces"),
]


@pytest.mark.parametrize("watched", ["", "own"])
def test_helm_installs_what_the_operator_needs_and_no_more(
    bare: client.ApiextensionsV1Api, own_server: Cluster, kubernetes: client.ApiClient, namespace: str, watched: str
) -> None:
    values: dict[str, Any] = {"watchNamespace": namespace if watched else ""}
    account = f"system:serviceaccount:{namespace}:orrery"
    with helm.Config(kubeconfig_path=str(own_server.kubeconfig), namespace=namespace) as config:
        assert config.install(str(CHART), "orrery", values)["status"] == "deployed"
        for verb, what in ALLOWED:
            assert may(kubernetes, account, verb, what, namespace), f"{verb} {what} is refused"
            assert may(kubernetes, account, verb, what, "kube-system") is not bool(watched), f"{verb} {what} elsewhere"
        for verb, what in REFUSED:
            assert not may(kubernetes, account, verb, what, namespace), f"{verb} {what} is allowed"
        assert may(kubernetes, account, "list", "pricelists.orrery.dev", "")
        for verb in ("create", "get", "update"):
            assert may(kubernetes, account, verb, "leases.coordination.k8s.io", namespace)
            assert not may(kubernetes, account, verb, "leases.coordination.k8s.io", "kube-system")
        # a plan, and an upgrade over it
        plans = client.CustomObjectsApi(kubernetes)
        plan = changed(PLAN, "metadata.namespace", namespace)
        plans.create_namespaced_custom_object(GROUP, VERSION, namespace, "adaptationplans", plan)
        assert config.upgrade(str(CHART), "orrery", {**values, "workers": 4})["revision"] == 2
        # a second release would have a Lease of its own, and spend beside the first
        second = {"crds": {"enabled": False}, "watchNamespace": namespace}
        with (
            helm.Config(kubeconfig_path=str(own_server.kubeconfig), namespace="kube-public") as beside,
            pytest.raises(helm.HelmError, match=rf"the operator orrery in the namespace {namespace} answers plans of"),
        ):
            beside.install(str(CHART), "second", second)
        config.uninstall("orrery")
    assert {d.metadata.name for d in bare.list_custom_resource_definition().items} >= set(CRDS), "the definitions stay"
    assert plans.get_namespaced_custom_object(GROUP, VERSION, namespace, "adaptationplans", "intents")
    assert not may(kubernetes, account, "get", "jobs.batch", namespace), "its rights go"
    leftover = kubectl(own_server, "-n", namespace, "get", "deploy,sa,role,rolebinding,service", "-o", "name").split()
    assert [name for name in leftover if "orrery" in name] == []


def test_kustomize_applies_the_base_and_the_example_plans(bare: client.ApiextensionsV1Api, own_server: Cluster) -> None:
    # without --validate=false this kubectl refuses CEL rules, which it does not know
    applied = kubectl(own_server, "apply", "--validate=false", "-k", str(ROOT / "config" / "base"))
    assert "deployment.apps/orrery created" in applied
    assert "adaptationplans.orrery.dev created" in applied
    kubectl(own_server, "wait", "--for=condition=Established", "--timeout=30s", *[f"crd/{name}" for name in CRDS])
    try:
        folder = ROOT / "examples" / "gitops" / "plans"
        # file by file: this kubectl's Kustomize is too old for a folder among the resources
        files = [str(folder / name) for name in ("namespace.yaml", "prices.yaml", "intents.yaml")]
        policy = str(ROOT / "config" / "probes-shut-in")
        plans = "".join(kubectl(own_server, "apply", "-f", name) for name in files)
        assert "adaptationplan.orrery.dev/intents created" in plans
        assert "created" in kubectl(own_server, "apply", "-n", "team-a", "-k", policy)
        version = ("-n", "team-a", "get", "aplan", "intents", "-o", "jsonpath={.metadata.resourceVersion}")
        before = kubectl(own_server, *version)
        for name in files:
            kubectl(own_server, "apply", "-f", name)
        assert kubectl(own_server, *version) == before, "what is filled in is no drift: applying again writes nothing"
    finally:
        kubectl(own_server, "delete", "namespace", "team-a", "--ignore-not-found", "--wait=false")
        kubectl(own_server, "delete", "-k", str(ROOT / "config" / "base"), "--ignore-not-found", "--wait=false")
