"""What the chart's account may do, as the real authorizer lists it: the chart's rules, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from kubernetes import client, config

from tests.cluster import Cluster
from tests.integration.operators import Namespace, chart_account
from tests.unit.charts.rendering import objects, of_kind

pytestmark = pytest.mark.integration

Right = tuple[str, str, str, str]  #: verb, group, resource, the one name


def rights(rules: Iterable[dict[str, Any]]) -> set[Right]:
    return {
        (verb, group, resource, name)
        for rule in rules
        for verb in rule.get("verbs") or []
        for group in rule.get("apiGroups") or []
        for resource in rule.get("resources") or []
        for name in rule.get("resourceNames") or [""]
    }


def reviewed(cluster: Cluster, release: str, account: str, namespace: str) -> set[Right]:
    """What the authorizer says that an account may do in a namespace."""
    with config.new_client_from_config(str(cluster.service_account_kubeconfig(release, account))) as limited:
        review = client.AuthorizationV1Api(limited).create_self_subject_rules_review({"spec": {"namespace": namespace}})
        status = limited.sanitize_for_serialization(review)["status"]
    assert not status.get("incomplete"), status
    return rights(status["resourceRules"])


def granted(values: dict[str, Any], release: str, kind: str, namespace: str | None) -> set[Right]:
    """What the chart's account is bound to by this kind of binding."""
    documents = objects(values, namespace=release)
    place = "ClusterRole" if kind == "ClusterRoleBinding" else "Role"
    found: set[Right] = set()
    for binding in of_kind(documents, kind):
        if namespace is not None and binding["metadata"].get("namespace", release) != namespace:
            continue
        assert [s["name"] for s in binding["subjects"]] == ["orrery"]
        for role in of_kind(documents, place):
            same = role["metadata"].get("namespace") == binding["metadata"].get("namespace")
            if same and role["metadata"]["name"] == binding["roleRef"]["name"]:
                found |= rights(role["rules"])
    return found


@pytest.mark.parametrize("everywhere", [True, False], ids=["cluster-wide", "namespaced"])
def test_the_account_has_the_charts_rights_and_no_other(
    simulating: Cluster, space: Namespace, kubernetes: client.ApiClient, everywhere: bool
) -> None:
    core, release = client.CoreV1Api(kubernetes), space.namespace
    watched, elsewhere = f"{release}-watched", f"{release}-elsewhere"
    for name in (watched, elsewhere):
        core.create_namespace({"metadata": {"name": name}})
    core.create_namespaced_service_account(release, {"metadata": {"name": "nobody"}})
    values = {"watchNamespace": "" if everywhere else watched}
    chart_account(simulating, watched=values["watchNamespace"], release=release)
    try:
        for namespace in (release, watched, elsewhere):
            # every account may look itself and the server's version up
            anybody = reviewed(simulating, release, "nobody", namespace)
            mine = reviewed(simulating, release, "orrery", namespace) - anybody
            wanted = granted(values, release, "ClusterRoleBinding", None)
            wanted |= granted(values, release, "RoleBinding", namespace)
            assert mine == wanted, namespace
            assert all("*" not in right and right[2] != "secrets" for right in mine)
            assert ("create", "batch", "jobs", "") in mine or not (everywhere or namespace == watched)
            assert {r for r in mine if r[1] == "coordination.k8s.io"} == (
                {(v, "coordination.k8s.io", "leases", "orrery-operator") for v in ("get", "update")}
                | {("create", "coordination.k8s.io", "leases", "")}
                if namespace == release
                else set()
            )
    finally:
        for name in (watched, elsewhere):
            core.delete_namespace(name)
