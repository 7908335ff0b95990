"""The chart: what it renders, what it grants, and what it refuses."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
from syrupy.assertion import SnapshotAssertion

from orrery.api.crd import RESOURCES, definition
from orrery.api.load import parse
from orrery.controller.jobs import JobSettings, build_probe_job
from orrery.controller.settings import Settings
from tests.unit.api.manifests import PLAN, PROBE
from tests.unit.charts.rendering import CHART, VARIANTS, objects, of_kind, texts

pytestmark = pytest.mark.unit

each_variant = pytest.mark.parametrize("variant", VARIANTS)
BUILT_IN = ("v1", "apps/v1", "rbac.authorization.k8s.io/v1", "networking.k8s.io/v1", "apiextensions.k8s.io/v1")


@each_variant
def test_rendered_manifests_are_as_reviewed(variant: str, snapshot: SnapshotAssertion) -> None:
    rendered = texts(VARIANTS[variant])
    rendered.pop("crds.yaml", None)  # held still by test_crd.py
    rendered.pop("dashboard.yaml", None)  # and by test_dashboard.py
    assert "\n---\n".join(f"# {path}\n{text}" for path, text in rendered.items()) == snapshot


@each_variant
def test_current_kubernetes_takes_every_object(variant: str) -> None:
    for document in objects(VARIANTS[variant]):
        if document["apiVersion"] in BUILT_IN:
            kubernetes_validate.validate(document, "1.37", strict=True)
        elif document["apiVersion"] == "orrery.dev/v1alpha1":
            parse(document)
        else:
            assert document["apiVersion"] == "monitoring.coreos.com/v1"


@each_variant
def test_lint_finds_nothing(variant: str) -> None:
    report = helm.lint(str(CHART), VARIANTS[variant], strict=True)
    assert report["errors"] == []
    assert [m for m in report["messages"] if m["severity"] > 1] == []


def test_definitions_come_with_the_chart_and_stay_when_it_goes() -> None:
    found = {d["metadata"]["name"]: d for d in of_kind(objects({}), "CustomResourceDefinition")}
    assert {name: d["spec"] for name, d in found.items()} == {r.name: definition(r)["spec"] for r in RESOURCES}
    assert all(d["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for d in found.values())
    fleeting = of_kind(objects({"crds": {"keep": False}}), "CustomResourceDefinition")
    assert all("annotations" not in d["metadata"] for d in fleeting)
    assert "deletes every plan" in texts({"crds": {"keep": False}})["NOTES.txt"]


def test_an_upgrade_renders_the_definitions_too() -> None:
    with helm.Chart.load(str(CHART)) as chart:
        upgrade = chart.render({}, name="orrery", namespace="orrery-system", is_upgrade=True)
    assert upgrade["orrery/templates/crds.yaml"].count("kind: CustomResourceDefinition") == len(RESOURCES)


@each_variant
def test_the_operator_is_single_and_replaced_not_doubled(variant: str) -> None:
    (deployment,) = of_kind(objects(VARIANTS[variant]), "Deployment")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


@each_variant
def test_the_operators_pod_is_restricted(variant: str) -> None:
    (deployment,) = of_kind(objects(VARIANTS[variant]), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert all(set(volume) <= {"name", "emptyDir", "configMap", "projected"} for volume in pod["volumes"])
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]


def granted(found: list[dict[str, Any]]) -> dict[str, set[tuple[str, str, str]]]:
    """What the operator's account may do, by namespace ("" for all), through the bindings that name it."""
    roles = {(d["kind"], d["metadata"].get("namespace", ""), d["metadata"]["name"]): d for d in found if "rules" in d}
    made: dict[str, set[tuple[str, str, str]]] = {}
    for binding in of_kind(found, "RoleBinding") + of_kind(found, "ClusterRoleBinding"):
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "orrery", "namespace": "orrery-system"}]
        space = binding["metadata"].get("namespace", "")
        ref = binding["roleRef"]
        for rule in roles[ref["kind"], space if ref["kind"] == "Role" else "", ref["name"]]["rules"]:
            made.setdefault(space, set()).update(
                (group, resource, verb)
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for verb in rule["verbs"]
            )
    return made


@each_variant
def test_the_operator_may_do_little(variant: str) -> None:
    for grants in granted(objects(VARIANTS[variant])).values():
        for group, resource, verb in grants:
            assert "*" not in (group, resource, verb)
            assert resource not in ("secrets", "serviceaccounts", "pods/exec", "pods/log", "nodes")
            assert group not in ("rbac.authorization.k8s.io", "admissionregistration.k8s.io")
            assert (resource, verb) not in {("adaptationplans", "create"), ("pods", "create"), ("pods", "delete")}
            assert resource != "pricelists" or verb in ("get", "list", "watch")


def test_one_namespace_is_one_namespace() -> None:
    grants = granted(objects(VARIANTS["namespaced"]))
    assert set(grants) == {"", "team-a", "orrery-system"}
    assert grants[""] == {("orrery.dev", "pricelists", verb) for verb in ("get", "list", "watch")}
    assert grants["orrery-system"] == {("coordination.k8s.io", "leases", v) for v in ("create", "get", "update")}
    everywhere = granted(objects({}))
    assert everywhere[""] == grants[""] | grants["team-a"]


def test_a_plans_author_needs_no_right_of_the_operator() -> None:
    roles = {d["metadata"]["name"]: d for d in of_kind(objects({}), "ClusterRole")}
    edit = roles["orrery-system-orrery-edit"]
    assert edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"] == "true"
    assert {r for rule in edit["rules"] for r in rule["resources"]} == {"adaptationplans"}
    view = roles["orrery-system-orrery-view"]
    assert {verb for rule in view["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}


def test_the_operator_reads_what_the_chart_sets() -> None:
    (deployment,) = of_kind(objects(VARIANTS["everything"]), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    env = {e["name"]: e.get("value", "given") for e in container["env"] if e["name"].startswith("ORRERY_")}
    for name in env:
        with pytest.raises(helm.HelmError, match=f"extraEnv names {name},"):
            texts({"extraEnv": [{"name": name, "value": ""}]})
    settings = Settings.from_environment(env)
    assert settings.namespace is None and settings.own_namespace == settings.identity == "given"
    assert settings.jobs.image == "orrery-probe:cuda" and settings.jobs.assets_claim == "assets"
    assert settings.jobs.default_memory == "8Gi" and settings.workers == 8
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"metrics": settings.metrics_port, "health": settings.health_port, "reports": settings.reports_port}
    source = inspect.getsource(sys.modules[Settings.__module__])
    assert all(f'"{name}"' in source for name in env), "the chart sets a variable that nothing reads"
    alone = Settings.from_environment({**env, "ORRERY_NAMESPACE": "team-a"})
    assert alone.namespace == "team-a"


def test_probes_are_shut_in() -> None:
    policies = of_kind(objects(VARIANTS["everything"]), "NetworkPolicy")
    probes = [p for p in policies if p["metadata"]["name"] == "orrery-probes"]
    assert [p["metadata"]["namespace"] for p in probes] == ["team-a", "team-b"]
    for policy in probes:
        spec = policy["spec"]
        assert spec["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "orrery-probe"}}
        assert spec["policyTypes"] == ["Ingress", "Egress"] and spec["ingress"] == []
        names, source = spec["egress"]
        assert {port["port"] for port in names["ports"]} == {53}
        assert [port["port"] for port in source["ports"]] == [443]
        for block in source["to"]:
            assert {"10.0.0.0/8", "169.254.0.0/16", "fc00::/7"} & set(block["ipBlock"]["except"])
    (offline,) = [
        p for p in of_kind(objects(VARIANTS["bare"]), "NetworkPolicy") if p["metadata"]["name"] == "orrery-probes"
    ]
    assert offline["spec"]["egress"] == []


def test_the_policy_selects_what_the_operator_makes() -> None:
    plan, probe = parse(PLAN), parse(PROBE)
    job = build_probe_job(probe, 1, plan.spec, JobSettings(image="probe:1"))  # type: ignore[arg-type,union-attr]
    policies = of_kind(objects(VARIANTS["namespaced"]), "NetworkPolicy")
    (policy,) = [p for p in policies if p["metadata"]["namespace"] == "team-a"]
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"replicas": 2}, "replicas"),
        ({"watchNamespace": "Team A"}, "watchNamespace"),
        ({"image": {"digest": "sha256:abc"}}, "digest"),
        ({"serviceAccount": {"name": "default"}}, "serviceAccount"),
        ({"metrics": {"port": 0}}, "port"),
        ({"priceList": {"spec": {"accelerators": [{"name": "cpu", "pricePerHour": 0.1}]}}}, "pricePerHour"),
        ({"probe": {"memory": "8GB"}}, "memory"),
        ({"workers": 0}, "workers"),
        ({"image": {"tag": "no tag"}}, "tag"),
        ({"metrics": {"port": 80}}, "port"),
        ({"podLabels": {"app.kubernetes.io/name": "other"}}, "podLabels"),
        ({"podSecurityContext": {"runAsUser": 0}}, "runAsUser"),
        ({"securityContext": {"privileged": True}}, "privileged"),
        ({"resources": {"limits": {"memory": 512}}}, "memory"),
        ({"networkPolicy": {"probes": {"modelSource": {"cidrs": [{"cidr": "10.0.0.0"}]}}}}, "cidr"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], words: str) -> None:
    with pytest.raises(helm.HelmError) as caught:
        texts(values)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
            "would count everything twice: enable one of them",
        ),
        (
            {"metrics": {"serviceMonitor": {"enabled": True}, "service": {"enabled": False}}},
            "needs metrics.service.enabled",
        ),
        ({"health": {"port": 9090}}, "give each a number of its own"),
        ({"extraEnv": [{"name": "ORRERY_WORKERS", "value": "3"}]}, "extraEnv names ORRERY_WORKERS"),
    ],
)
def test_values_that_contradict_each_other_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(helm.HelmError) as caught:
        texts(values)
    assert words in str(caught.value)


def test_two_releases_do_not_share_cluster_roles() -> None:
    def names(name: str, namespace: str) -> set[str]:
        found = objects({}, name=name, namespace=namespace)
        return {d["metadata"]["name"] for d in of_kind(found, "ClusterRole") + of_kind(found, "ClusterRoleBinding")}

    assert not names("orrery", "a") & names("orrery", "b")
    assert not names("orrery", "a") & names("lab", "a")


def test_every_value_is_used_and_in_the_schema() -> None:
    with helm.Chart.load(str(CHART)) as chart:
        values, schema = chart.values, chart.schema
    assert schema is not None
    templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())

    def check(at: dict[str, Any], node: dict[str, Any], path: str) -> None:
        for name, value in at.items():
            assert name in node["properties"], f"{path}{name} is not in values.schema.json"
            assert f".{name}" in templates, f"{path}{name} is used by no template"
            below = node["properties"][name]
            if (
                isinstance(value, dict)
                and value
                and "properties" in below
                and not name.endswith(("spec", "resources", "ecurityContext"))
            ):
                check(value, below, f"{path}{name}.")

    check(values, schema, "")
