"""Manifests become models or sentences."""

from __future__ import annotations

import datetime
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.api import yamltext
from orrery.api.load import ManifestError, load, parse, parse_model, parse_text
from orrery.api.plan import AdaptationPlan, Budget, GridAxis, PlanSpec
from orrery.api.pricelist import PriceList
from orrery.api.probe import AdaptationProbe
from tests.unit.api.manifests import BAD_PLANS, PLAN, PRICES, PROBE, REMOVE, changed

pytestmark = pytest.mark.unit


#: Every sentence ends with what to do.
MEND = re.compile(r": (write|keep|give|leave) ")


def refused(document: Any) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        parse(document)
    assert str(caught.value) == "\n".join(str(problem) for problem in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("path", "value", "expected", "by"), BAD_PLANS, ids=[f"{b[0]}={b[1]!r}"[:70] for b in BAD_PLANS]
)
def test_a_bad_plan_is_refused_with_field_value_and_mend(path: str, value: Any, expected: str, by: str) -> None:
    assert refused(changed(PLAN, path, value)) == [expected]


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("spec.probeTemplate", {"labels": {"no label": "x"}}, "spec.probeTemplate.labels.no label"),
        ("spec.probeTemplate", {"annotations": {"/x": "y"}}, "spec.probeTemplate.annotations./x"),
        ("spec.accelerators.0.nodeSelector", {"-a": "x"}, "spec.accelerators[cpu].nodeSelector.-a"),
        ("spec.accelerators.0.tolerations", [{"key": "a b"}], "spec.accelerators[cpu].tolerations[0].key"),
    ],
)
def test_a_key_that_kubernetes_would_refuse_with_the_job_is_refused_before(path: str, value: Any, field: str) -> None:
    (said,) = refused(changed(PLAN, path, value))
    assert said.startswith(f"{field} is no key that Kubernetes takes: write at most 63 letters, digits")


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (
            "spec.accelerators.0.pricePerHour",
            "-1",
            "spec.accelerators[cpu].pricePerHour is '-1', below zero: write an amount of '0' or more, such as '2.50'",
        ),
        (
            "spec.accelerators.2.capacityType",
            "OnDemand",
            "spec.accelerators names 'h100' with OnDemand twice: keep one price for the pair",
        ),
        ("spec.date", 20260131, "spec.date is 20260131: write a day as YEAR-MONTH-DAY, such as '2026-01-31'"),
        ("spec.date", "2026-02-30", "spec.date is '2026-02-30': write a day as YEAR-MONTH-DAY, such as '2026-01-31'"),
        ("spec.currency", "usd", "spec.currency is 'usd': write a currency's ISO 4217 code, such as 'USD'"),
    ],
)
def test_a_bad_price_list_is_refused(path: str, value: Any, expected: str) -> None:
    assert refused(changed(PRICES, path, value)) == [expected]


def test_unknown_fields_are_refused_with_the_nearest_known_one() -> None:
    (text,) = refused(changed(PLAN, "spec.budget.maxProbCost", "1"))
    assert text == (
        "spec.budget.maxProbCost is no field here: write one of maxProbeCost, maxAcceleratorSeconds, onExceeded "
        "(did you mean maxProbeCost?)"
    )
    assert "max_probe_cost is no field here" in refused(changed(PLAN, "spec.budget.max_probe_cost", "1"))[0]


def test_every_problem_is_told_at_once() -> None:
    document = changed(changed(PLAN, "spec.suspend", "yes"), "spec.workload", REMOVE)
    assert len(refused(document)) == 2


def test_every_rule_over_several_fields_is_told_at_once() -> None:
    document = changed(changed(PLAN, "spec.models.0.name", "minilm"), "spec.objective.minQuality", "90")
    document = changed(document, "spec.exclude.0.strategy", "prayer")
    assert refused(document) == [
        "spec.models names 'minilm' twice: give every entry a name of its own",
        "spec.exclude names the strategy 'prayer': write one of lora, shots, zero",
        "spec.objective.minQuality is '90', and Accuracy is at most 1: write a share such as '0.90'",
    ]
    document = changed(
        changed(PLAN, "spec.objective", {"goal": "Weighted", "confidence": "1"}), "spec.task.type", "MultipleChoice"
    )
    document = changed(document, "spec.task.metric.name", "TokenF1")
    fields = {problem.split(" is ")[0] for problem in refused(document)}
    assert {"spec.objective.pointValue", "spec.objective.confidence", "spec.task.metric.name"} <= fields
    prices = changed(changed(PRICES, "spec.currency", "XQZ"), "spec.accelerators.2.capacityType", "OnDemand")
    prices = changed(prices, "spec.hostedModels", [PRICES["spec"]["hostedModels"][0]] * 3)
    assert [problem.split()[0] for problem in refused(prices)] == [
        "spec.currency",
        "spec.accelerators",
        "spec.hostedModels",
    ]


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("spec.task.template.example", "{input}" + "x" * 5000, "has 5007 characters: write at most 4096"),
        ("spec.task.template.example", "", "is '': write at least 1 character(s)"),
        ("spec.strategies", [], "has 0 entries: write at least 1"),
        ("spec.workload.hourlyProfile", [1] * 25, "has 25 entries: write at most 24"),
        ("spec.objective.minQuality", "1e40", "is '1e40': write a number below 10^30, such as '0.85'"),
        ("spec.budget.maxProbeCost", "1000000000000", "is '1000000000000': write an amount below 10^12, without"),
        ("spec.budget.maxProbeCost", "007", "is '007': write an amount below 10^12, without leading zeros and with"),
        ("spec.budget.maxProbeCost", "0.0000000001", "is '0.0000000001': write an amount below 10^12, without"),
        ("spec.budget.maxProbeCost", "2,50", "is '2,50': write a decimal string such as '2.50' in quotes"),
        ("spec.strategies.0.grid", [{"name": "rank", "values": [True]}], "is the boolean true: write it in quotes"),
        ("spec.strategies.0.grid", [{"name": "rank", "values": [1.5]}], "is the float 1.5: write it as a string in"),
        ("spec.strategies.0.grid", [{"name": "rank", "values": [["8"]]}], "is ['8']: write a string in quotes or a"),
        ("metadata.labels", {1: "x"}, "has the key 1: write keys as strings, in quotes"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_value_beyond_its_bounds_is_told_with_the_bound(path: str, value: Any, expected: str) -> None:
    (told,) = refused(changed(PLAN, path, value))
    assert f" {expected}" in told


def test_values_that_code_makes_are_held_to_the_same_amounts() -> None:
    for amount, expected in (
        (Decimal(-1), "below zero"),
        (Decimal(10) ** 12, "below 10^12"),
        (Decimal("1e-10"), "9 decimals"),
    ):
        with pytest.raises(ValueError, match=re.escape(expected)):
            Budget(max_probe_cost=amount)
    assert GridAxis(name="merge", values=[True]).values == ["true"]


def test_a_manifest_of_faults_is_told_by_the_first_fifty() -> None:
    names = [{"name": f"m{i % 20}", "source": {"builtin": {"name": "all-minilm-l6-v2"}}} for i in range(40)]
    exclude = [{"model": f"x{i}", "strategy": f"y{i}"} for i in range(40)]
    document = changed(changed(PLAN, "spec.models", names), "spec.exclude", exclude)
    assert len(refused(document)) == 50


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("path", ["spec.probing.seed", "metadata.annotations", "spec.task.template.example"])
def test_no_field_takes_nan(path: str, value: float) -> None:
    assert refused(changed(PLAN, path, value)) == [f"{path} is {value!r}: write a finite number"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3", "f.yaml: the file is not YAML, line 3: the key 'a' stands there twice: keep one of them"),
        ("a: !!float x", "f.yaml: the file is not YAML, line 1: 'x' is no number"),
        ("a: !!int x", "f.yaml: the file is not YAML, line 1: 'x' is no whole number"),
        ("- 1", "f.yaml: the manifest is [1]: write a mapping with apiVersion and kind"),
        ("kind: AdaptationPlan", "f.yaml: apiVersion is missing: write 'orrery.dev/v1alpha1'"),
        (
            "apiVersion: orrery.dev/v1alpha1\nkind: Adaptationplan",
            "f.yaml: kind is 'Adaptationplan': write one of AdaptationPlan, AdaptationProbe, PriceList, AdaptationBudget "
            "(did you mean AdaptationPlan?)",
        ),
        (
            "apiVersion: orrery.dev/v1\nkind: PriceList",
            "f.yaml: apiVersion is 'orrery.dev/v1': write 'orrery.dev/v1alpha1'",
        ),
    ],
)
def test_text_that_is_no_manifest_is_refused(text: str, expected: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_text(text, "f.yaml")
    assert str(caught.value) == expected


def test_a_text_that_no_server_would_store_is_not_even_read() -> None:
    with pytest.raises(ManifestError, match="the file has 3145729 characters: write at most 3145728"):
        parse_text("#" * 3_145_729)


def test_aliases_that_multiply_are_refused_before_they_do() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
    )
    with pytest.raises(ManifestError, match="too large or too deep"):
        parse_text("apiVersion: orrery.dev/v1alpha1\nkind: PriceList\n" + bomb)
    with pytest.raises(ManifestError, match="too large or too deep"):
        parse_text("apiVersion: orrery.dev/v1alpha1\nkind: PriceList\nspec: &s {again: *s}")


def test_numbers_are_quoted_as_they_stand_in_the_file() -> None:
    text = yamltext.write(PLAN).replace("'2.50'", "2.50").replace("'2e-4'", "2e-4")
    with pytest.raises(ManifestError) as caught:
        parse_text(text)
    assert str(caught.value).splitlines() == [
        "spec.strategies[lora].grid[learningRate].values[0] is the float 2e-4: write it as a string in quotes, "
        "such as '2e-4'",
        "spec.budget.maxProbeCost is the float 2.50: write a decimal string such as '2.50' in quotes",
    ]


def test_an_unquoted_day_is_a_day() -> None:
    (prices,) = parse_text(yamltext.write(PRICES).replace("'2026-01-31'", "2026-01-31")).price_lists
    assert prices.spec.date == datetime.date(2026, 1, 31)


def test_null_is_the_same_as_left_out() -> None:
    assert parse(changed(PLAN, "spec.suspend", None)) == parse(PLAN)
    assert refused(changed(PLAN, "spec.workload", None)) == refused(changed(PLAN, "spec.workload", REMOVE))


def test_files_are_read_together(tmp_path: Path) -> None:
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "data"}, "data": {"a.jsonl": "{}"}}
    (tmp_path / "plan.yaml").write_text("---\n".join(map(yamltext.write, (PLAN, config_map))))
    (tmp_path / "rest.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": [PRICES, PROBE]}, indent=1)
    )
    found = load([tmp_path / "plan.yaml", tmp_path / "rest.json"])
    assert found.plan().metadata.name == "intents"
    assert found.prices(found.plan()).spec.currency == "USD"
    assert [p.metadata.name for p in found.probes] == ["probe-1"]
    assert found.others == [config_map]
    alone = load([tmp_path / "plan.yaml"])
    with pytest.raises(ManifestError, match=r"spec.pricing.priceListRef.name is 'lab', which is in none of the files"):
        alone.prices(alone.plan())
    with pytest.raises(ManifestError, match="the file cannot be read"):
        load([tmp_path / "missing.yaml"])
    with pytest.raises(ManifestError, match="AdaptationPlan is in none of the files"):
        load([tmp_path / "rest.json"]).plan()


def test_a_name_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    dearer = changed(PRICES, "spec.currency", "EUR")
    other = changed(PLAN, "metadata.name", "other")
    for name, documents, sentence in (
        ("prices", [PLAN, PRICES, dearer], r"PriceList.metadata.name is 'lab' in 2 documents: write it once"),
        ("plans", [PLAN, PLAN], r"AdaptationPlan.metadata.name is 'team-a/intents' in 2 documents"),
    ):
        (tmp_path / name).write_text("---\n".join(map(yamltext.write, documents)))
        with pytest.raises(ManifestError, match=sentence):
            load([tmp_path / name])
    (tmp_path / "two").write_text("---\n".join(map(yamltext.write, (PLAN, other))))
    with pytest.raises(ManifestError, match=r"is there 2 times \(intents, other\): give exactly one"):
        load([tmp_path / "two"]).plan()


@pytest.mark.parametrize("document", [PLAN, PROBE, PRICES], ids=["plan", "probe", "prices"])
def test_wire_and_back_is_the_identity(document: dict[str, Any]) -> None:
    once = parse(document)
    text = yamltext.write(once.to_wire())
    assert yamltext.write(parse(yamltext.read(text)[0]).to_wire()) == text
    assert parse(once.to_wire()) == once
    assert parse(yaml.safe_load(text)) == once, "PyYAML reads what we write the same way"


NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,6}[a-z0-9])?", fullmatch=True)
MONEY = st.decimals(min_value=0, max_value=10**11, places=9).map(lambda d: format(d, "f"))
GRID = st.lists(
    st.one_of(st.integers(-5, 5000).map(str), st.from_regex(r"[1-9]e-[1-9]", fullmatch=True)),
    min_size=1,
    max_size=4,
    unique=True,
)


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    models = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    strategies = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    document = changed(PLAN, "spec.exclude", [{"model": models[0], "strategy": strategies[0]}])
    document["spec"]["models"] = [
        {"name": n, "source": draw(st.sampled_from([{"builtin": {"name": "x"}}, {"local": {"path": "../x"}}]))}
        for n in models
    ]
    document["spec"]["strategies"] = [
        {"name": n, "type": "LoRA", "grid": [{"name": "rank", "values": draw(GRID)}]} for n in strategies
    ]
    document["spec"]["budget"]["maxProbeCost"] = draw(MONEY)
    document["spec"]["objective"] = {"goal": "Weighted", "pointValue": draw(MONEY)}
    document["spec"]["probing"] = {"seed": draw(st.integers(0, 2**31 - 1)), "deadlineSeconds": draw(st.integers(1, 9))}
    return document


@settings(max_examples=20, deadline=None)
@given(plans())
def test_any_plan_survives_the_wire(document: dict[str, Any]) -> None:
    plan = parse(document)
    again = parse_text(yamltext.write(plan.to_wire())).plan()
    assert again == plan
    assert yamltext.write(again.to_wire()) == yamltext.write(plan.to_wire())


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)


def places(value: Any, at: str = "") -> list[str]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, child in below for place in places(child, f"{at}.{key}" if at else str(key)))]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([PLAN, PROBE, PRICES]), st.data())
def test_garbage_anywhere_is_a_manifest_error_or_a_resource(document: dict[str, Any], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(places(document)))
    value = data.draw(JSON)
    try:
        resource = parse(changed(document, path, value) if path else value)
    except ManifestError as error:
        assert error.problems
        assert all(p.field and MEND.search(p.message) for p in error.problems), str(error)
    else:
        assert isinstance(resource, (AdaptationPlan, AdaptationProbe, PriceList))
        assert parse(resource.to_wire()) == resource


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.text(max_size=40), st.text(alphabet="{}[]:,-&*!?|>'\"%@#\n ab1.eE", max_size=40)))
def test_any_text_is_a_manifest_error_or_manifests(text: str) -> None:
    try:
        parse_text(text)
    except ManifestError as error:
        assert error.problems


def test_a_part_of_a_manifest_can_be_read_alone() -> None:
    assert parse_model(PlanSpec, PLAN["spec"]) == parse(PLAN).spec
