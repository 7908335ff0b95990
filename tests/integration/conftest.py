"""A real Kubernetes for the integration tests.

`cluster`       the whole control plane and one node whose Pods are processes; started once a session
`api_server`    etcd and the API server alone: for tests that need objects, not controllers
`own_cluster`   `cluster`, skipped when KUBECONFIG names somebody's own cluster: for tests that interrupt it
`kubernetes`    an ApiClient of the official client with the administrator's rights
`namespace`     a new namespace's name, deleted afterwards
`simulating`    `own_cluster` for a session, with our definitions and a node for simulated probes
`operator`      `orrery operator` on it, one a module
`space`         a new namespace there, with plans, probes and Jobs as plain objects

A test that asks for `api_server` and not for `cluster` gets `kubernetes` and `namespace` of that server. With KUBECONFIG set, all of it is
that cluster, and nothing is built or started.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client, config

from tests.cluster import Cluster, ExternalCluster, KubeletOptions, Options
from tests.cluster.crds import install_crds
from tests.cluster.programs import REPOSITORY
from tests.integration.operators import SIMULATED, Namespace, Operator, chart_account


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster | ExternalCluster]:
    yield from _start(tmp_path_factory, Options(mode="full"))


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster | ExternalCluster]:
    yield from _start(tmp_path_factory, Options(mode="api"))


@pytest.fixture
def own_cluster(cluster: Cluster | ExternalCluster) -> Cluster:
    if not isinstance(cluster, Cluster):
        pytest.skip("interrupts the cluster, and KUBECONFIG names one that is not ours")
    return cluster


@pytest.fixture
def kubernetes(request: pytest.FixtureRequest) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(str(_server(request).kubeconfig)) as api_client:
        yield api_client


@pytest.fixture
def namespace(request: pytest.FixtureRequest, kubernetes: client.ApiClient) -> Iterator[str]:
    core, name = client.CoreV1Api(kubernetes), f"test-{uuid.uuid4().hex[:10]}"
    core.create_namespace({"metadata": {"name": name, "labels": {"orrery.dev/test": "true"}}})
    if not _without_controllers(request):
        _wait_for_default_account(core, name)
    yield name
    core.delete_namespace(name)


def _start(factory: pytest.TempPathFactory, options: Options) -> Iterator[Cluster | ExternalCluster]:
    external = ExternalCluster.from_environment()
    if external is not None:
        yield external
        return
    with Cluster(factory.mktemp(f"cluster-{options.mode}"), options) as started:
        yield started


def _server(request: pytest.FixtureRequest) -> Cluster | ExternalCluster:
    server: Cluster | ExternalCluster = request.getfixturevalue(
        "api_server" if _without_controllers(request) else "cluster"
    )
    return server


def _without_controllers(request: pytest.FixtureRequest) -> bool:
    names = set(request.fixturenames)
    return "api_server" in names and not {"cluster", "own_cluster", "simulating"} & names


def _wait_for_default_account(core: client.CoreV1Api, namespace: str, seconds: float = 120) -> None:
    """A Pod that comes before its namespace's default ServiceAccount is refused; a controller makes the account a moment later."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            core.read_namespaced_service_account("default", namespace)
            return
        except client.ApiException as error:
            if error.status != 404 or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@pytest.fixture(scope="session")
def simulating(cluster: Cluster | ExternalCluster) -> Cluster:
    """`cluster` with our definitions and a node that runs simulated probes."""
    if not isinstance(cluster, Cluster):
        pytest.skip("needs images that are programs of this machine, and KUBECONFIG names a cluster that is not ours")
    script = Path(__file__).with_name("simulated_probe.py")
    entrypoints = {"orrery/simulated": f"{sys.executable} -S -E {script}"}
    cluster.kubelet("simulated", KubeletOptions(labels=SIMULATED, entrypoints=entrypoints)).start()
    with config.new_client_from_config(str(cluster.kubeconfig)) as api_client:
        install_crds(api_client, REPOSITORY / "crds")
        core = client.CoreV1Api(api_client)
        core.create_namespace({"metadata": {"name": "orrery-system"}})
    return cluster


@pytest.fixture
def space(simulating: Cluster, kubernetes: client.ApiClient, namespace: str) -> Namespace:
    """A new namespace as the operator's tests speak of it."""
    return Namespace(kubernetes, namespace)


@pytest.fixture(scope="module")
def operator(simulating: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """An operator for all namespaces, with the chart's account and nothing more, as long as the module's tests."""
    account = chart_account(simulating)
    with Operator(account, tmp_path_factory.mktemp("operator"), ORRERY_OWN_NAMESPACE="orrery-system") as running:
        yield running
