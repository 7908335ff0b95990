"""GitOps: generated bases are fresh, examples are valid, and Argo CD and Flux read a plan's health as kstatus does."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import cel
import kubernetes_validate
import lupa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.api.load import load
from orrery.planning.status import Verdict, conditions
from tests.unit.charts.rendering import objects, of_kind

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
ARGOCD = ROOT / "config" / "argocd" / "resource_customizations" / "orrery.dev"
GITOPS = ROOT / "examples" / "gitops"
ARGOCD_OF_KSTATUS = {"InProgress": "Progressing", "Failed": "Degraded", "Current": "Healthy"}


def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "config" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documents(path: Path) -> list[dict[str, Any]]:
    return [d for d in yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader) if d]


def health(kind: str, obj: dict[str, Any]) -> dict[str, str]:
    """What Argo CD shows of an object: our script in a Lua of its own, as Argo CD runs it."""
    lua = lupa.LuaRuntime(register_eval=False, unpack_returned_tuples=True)
    lua.globals()["obj"] = lua.table_from(obj, recursive=True)
    result = lua.execute((ARGOCD / kind / "health.lua").read_text())
    return dict(result)


def kstatus(obj: dict[str, Any]) -> str:
    """sigs.k8s.io/cli-utils/pkg/kstatus for a kind it does not know: generation, then conditions in their order, then Ready."""
    status = obj.get("status") or {}
    observed = status.get("observedGeneration")
    if observed is not None and observed != obj["metadata"]["generation"]:
        return "InProgress"
    found = status.get("conditions") or []
    for condition in found:
        if condition["status"] == "True" and condition["type"] in ("Reconciling", "Stalled"):
            return "InProgress" if condition["type"] == "Reconciling" else "Failed"
    for condition in found:
        if condition["type"] == "Ready":
            return "Current" if condition["status"] == "True" else "InProgress"
    return "Current"


def flux(obj: dict[str, Any]) -> str:
    """What Flux makes of our expressions: in progress, failed, current, in this order; a missing field is in progress."""
    (kustomization,) = [d for d in documents(GITOPS / "flux" / "plans.yaml") if d["kind"] == "Kustomization"]
    (check,) = kustomization["spec"]["healthCheckExprs"]
    for name, status in (("inProgress", "InProgress"), ("failed", "Failed"), ("current", "Current")):
        try:
            if cel.evaluate(check[name], cel.Context(variables=obj)):
                return status
        except (ValueError, RuntimeError):
            return "InProgress"
    return "InProgress"


CASES = [
    (kind, case)
    for kind in ("AdaptationPlan", "AdaptationProbe", "AdaptationBudget")
    for case in documents(ARGOCD / kind / "health_test.yaml")[0]["tests"]
]


@pytest.mark.parametrize(("kind", "case"), CASES, ids=[f"{k}-{Path(c['inputPath']).stem}" for k, c in CASES])
def test_argo_cd_shows_the_health(kind: str, case: dict[str, Any]) -> None:
    (obj,) = documents(ARGOCD / kind / case["inputPath"])
    assert health(kind, obj) == case["healthStatus"]


def test_every_phase_has_a_case() -> None:
    phases = {
        (documents(ARGOCD / kind / case["inputPath"])[0].get("status") or {}).get("phase")
        for kind, case in CASES
        if kind == "AdaptationPlan"
    }
    assert phases == {
        *(None, "Pending", "Probing", "Confirming", "Answered", "Infeasible", "Stalled", "Suspended", "Failed")
    }


@pytest.mark.parametrize(
    "case", [c for k, c in CASES if k == "AdaptationPlan"], ids=lambda c: Path(c["inputPath"]).stem
)
def test_argo_cd_and_flux_agree_with_kstatus(case: dict[str, Any]) -> None:
    (obj,) = documents(ARGOCD / "AdaptationPlan" / case["inputPath"])
    if obj["spec"].get("suspend"):
        assert health("AdaptationPlan", obj)["status"] == "Suspended"
        assert flux(obj) == kstatus(obj) == "Current", "a suspended plan must not hold up what waits for it"
    elif "status" in obj:
        assert health("AdaptationPlan", obj)["status"] == ARGOCD_OF_KSTATUS[kstatus(obj)]
        assert flux(obj) == kstatus(obj)
    else:  # kstatus takes a kind without status for current; we know that the operator has not seen it yet
        assert health("AdaptationPlan", obj)["status"] == "Progressing"
        assert flux(obj) == "InProgress"


def test_a_suspended_plan_as_the_core_writes_it_holds_up_nothing_and_is_not_ready() -> None:
    rests, waits = (conditions(Verdict("Suspended", "spec.suspend is true", done), None) for done in (True, False))
    obj: dict[str, Any] = {"metadata": {"generation": 1}, "spec": {"suspend": True}}
    obj["status"] = {"observedGeneration": 1, "conditions": [c.to_wire() for c in rests]}
    assert health("AdaptationPlan", obj)["status"] == "Suspended"
    assert flux(obj) == kstatus(obj) == "Current"
    assert all(c.type != "Ready" for c in rests), "`kubectl wait --for=condition=Ready` waits for an answer"
    obj["status"]["conditions"] = [c.to_wire() for c in waits]
    assert kstatus(obj) == "InProgress", "its last probes run"


@settings(max_examples=40, deadline=None)
@given(st.booleans(), st.booleans(), st.one_of(st.none(), st.booleans()), st.sampled_from([1, 2]), st.booleans())
def test_they_agree_on_the_conditions_that_the_core_writes(
    finished: bool, stalled: bool, feasible: bool | None, generation: int, validated: bool
) -> None:
    verdict = Verdict("Reason", "A sentence.", finished, stalled=stalled)
    written = [c.to_wire() for c in conditions(verdict, feasible, validated)]
    obj = {
        "metadata": {"generation": generation},
        "spec": {"budget": {}},
        "status": {"observedGeneration": 1, "conditions": written},
    }
    assert health("AdaptationPlan", obj)["status"] == ARGOCD_OF_KSTATUS[kstatus(obj)]
    assert flux(obj) == kstatus(obj)


def test_generated_files_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate().main(check=True) == 0, capsys.readouterr().err


def test_the_bases_are_the_chart() -> None:
    for folder, values in generate().BASES.items():
        found = {(d["kind"], d["metadata"]["name"]) for d in documents(ROOT / "config" / folder / "orrery.yaml")}
        assert found == {(d["kind"], d["metadata"]["name"]) for d in objects(values)}
        assert "helm.sh" not in (ROOT / "config" / folder / "orrery.yaml").read_text()


def test_kustomizations_name_files_that_exist() -> None:
    paths = [*ROOT.glob("config/*/kustomization.yaml"), *GITOPS.glob("**/kustomization.yaml")]
    assert len(paths) == 4
    for path in paths:
        (content,) = documents(path)
        for resource in content["resources"]:
            assert (path.parent / resource).exists(), f"{path} names {resource}"


def test_the_standalone_policy_is_the_charts() -> None:
    values = {"networkPolicy": {"enabled": True, "probes": {"namespaces": ["team-a"]}}}
    (rendered,) = [p for p in of_kind(objects(values), "NetworkPolicy") if p["metadata"]["namespace"] == "team-a"]
    (standalone,) = documents(ROOT / "config" / "probes-shut-in" / "networkpolicy.yaml")
    kubernetes_validate.validate(standalone, "1.37", strict=True)
    assert standalone["spec"] == rendered["spec"]


def test_the_example_plans_are_valid() -> None:
    found = load(sorted((GITOPS / "plans").glob("[!k]*.yaml")))
    plan = found.plan()
    prices = found.prices(plan)
    for accelerator in plan.spec.accelerators:
        assert (accelerator.name, accelerator.capacity_type) in {
            (p.name, p.capacity_type) for p in prices.spec.accelerators
        }


def test_the_examples_give_the_chart_values_it_takes() -> None:
    (application,) = documents(GITOPS / "argocd" / "operator.yaml")
    (release,) = [d for d in documents(GITOPS / "flux" / "operator.yaml") if d["kind"] == "HelmRelease"]
    for values in (application["spec"]["source"]["helm"]["valuesObject"], release["spec"]["values"]):
        (deployment,) = of_kind(objects(values), "Deployment")
        image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        assert image.startswith("registry.example.com/orrery-operator:")
