"""A real Kubernetes for the integration tests.

`cluster`       the whole control plane and one node whose Pods are processes; started once a session
`api_server`    etcd and the API server alone: for tests that need objects, not controllers
`own_cluster`   `cluster`, skipped when KUBECONFIG names somebody's own cluster: for tests that interrupt it
`kubernetes`    an ApiClient of the official client with the administrator's rights
`namespace`     a new namespace's name, deleted afterwards

A test that asks for `api_server` and not for `cluster` gets `kubernetes` and `namespace` of that server. With KUBECONFIG set, all of it is
that cluster, and nothing is built or started.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest
from kubernetes import client, config

from tests.cluster import Cluster, ExternalCluster, Options


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
    return "api_server" in names and not {"cluster", "own_cluster"} & names


def _wait_for_default_account(core: client.CoreV1Api, namespace: str, seconds: float = 20) -> None:
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
