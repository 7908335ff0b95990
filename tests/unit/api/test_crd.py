"""The definitions: fresh, structural, bounded, described, and of one mind with the models."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.api.crd import RESOURCES, Resource, definition, schema_of
from orrery.api.load import ManifestError, parse
from orrery.api.rules import RULES
from orrery.cli.crds import crds
from tests.unit.api.manifests import BAD_PLANS, BUDGET, PLAN, PRICES, PROBE, REMOVE, changed
from tests.unit.api.structural import problems, rule_holds, with_defaults
from tests.unit.api.test_load import plans

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
SCHEMAS = {resource.model.__name__: schema_of(resource) for resource in RESOURCES}
MANIFESTS = {"AdaptationPlan": PLAN, "AdaptationProbe": PROBE, "PriceList": PRICES, "AdaptationBudget": BUDGET}
each_resource = pytest.mark.parametrize("resource", RESOURCES, ids=lambda r: r.model.__name__)


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}[]")


ALL = [(path, node) for kind, schema in SCHEMAS.items() for path, node in nodes(schema, kind)]


@pytest.mark.parametrize("folder", ["crds", "charts/orrery/files/crds"])
def test_the_checked_in_definitions_are_fresh(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert crds(ROOT / folder, check=True) == 0, capsys.readouterr().err


def test_stale_definitions_are_named_and_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crds(tmp_path / "new", check=False) == 0
    (tmp_path / "new" / "pricelists.orrery.dev.yaml").write_text("{}")
    (tmp_path / "new" / "old.orrery.dev.yaml").write_text("{}")
    assert crds(tmp_path / "new", check=True) == 1
    assert capsys.readouterr().err.count("is stale: run `orrery crds --output") == 2
    assert crds(tmp_path / "new", check=False) == 0
    assert crds(tmp_path / "new", check=True) == 0


def test_standard_output_has_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert crds(None, check=False) == 0
    assert [d["metadata"]["name"] for d in list(yaml.load_all(capsys.readouterr().out, Loader=yaml.CSafeLoader))] == [
        r.name for r in RESOURCES
    ]


@each_resource
def test_current_kubernetes_takes_the_definition(resource: Resource) -> None:
    kubernetes_validate.validate(definition(resource), "1.37", strict=True)


def test_schemas_are_structural() -> None:
    for path, node in ALL:
        for word in ("$ref", "anyOf", "allOf", "oneOf", "not", "title", "const", "nullable"):
            assert word not in node, f"{path} has {word}"
        assert node.get("type") in ("object", "array", "string", "integer", "boolean") or node.get(
            "x-kubernetes-int-or-string"
        ), f"{path} has no type, or a float"
        assert not ("properties" in node and "additionalProperties" in node), path


def test_everything_is_bounded() -> None:
    for path, node in ALL:
        kind = node.get("type", "string")
        if path.count(".") <= 1:  # apiVersion, kind, metadata
            continue
        if kind == "array":
            assert "maxItems" in node, f"{path} is a list without bound"
        elif kind == "string":
            assert {"maxLength", "enum", "format"} & set(node), f"{path} is a string without bound"
        elif kind == "integer":
            assert {"minimum", "maximum"} <= set(node), f"{path} is a number without bounds"
        elif isinstance(node.get("additionalProperties"), dict):
            assert "maxProperties" in node, f"{path} is a map without bound"


def test_every_field_is_described() -> None:
    for path, node in ALL:
        if path.endswith((".metadata", "[]")):
            continue
        text = node.get("description", "")
        assert len(text) >= 5 and text.endswith((".", "?")), f"{path} is described as {text!r}"
        assert "%" not in text, f"{path}: kubectl explain takes % for a format"


def test_list_map_keys_are_always_there() -> None:
    maps = [(path, node) for path, node in ALL if node.get("x-kubernetes-list-type") == "map"]
    assert len(maps) >= 12
    for path, node in maps:
        for key in node["x-kubernetes-list-map-keys"]:
            item = node["items"]
            assert key in item.get("required", []) or "default" in item["properties"][key], f"{path} {key}"


def test_defaults_are_valid_and_only_in_specs() -> None:
    for path, node in ALL:
        if "default" not in node:
            continue
        assert ".status" not in path, f"{path} would be filled in by the server and differ from what we write"
        wrapped = {"type": "object", "properties": {"value": node}}
        assert problems(wrapped, {"value": node["default"]}) == {}, path


def test_columns_show_fields_that_exist() -> None:
    for resource in RESOURCES:
        paths = {
            re.sub(r"\[\]", "", p).removeprefix(resource.model.__name__) for p, _ in nodes(schema_of(resource), "")
        }
        for column in resource.columns:
            plain = re.sub(r"\[[^]]*\]", "", column.path)
            assert plain in paths | {".metadata.creationTimestamp"}, (
                f"{resource.name}: {column.name} shows {column.path}"
            )


@pytest.mark.parametrize("kind", MANIFESTS)
def test_good_manifests_pass(kind: str) -> None:
    assert problems(SCHEMAS[kind], MANIFESTS[kind]) == {}


@pytest.mark.parametrize(
    ("path", "value", "sentence", "by"), BAD_PLANS, ids=[f"{b[0]}={b[1]!r}"[:70] for b in BAD_PLANS]
)
def test_the_server_refuses_what_the_models_refuse(path: str, value: Any, sentence: str, by: str) -> None:
    assert by in problems(SCHEMAS["AdaptationPlan"], changed(PLAN, path, value))


def test_rules_say_what_to_write() -> None:
    for rules in RULES.values():
        for rule in rules:
            assert "\n" not in rule.message
            assert "write " in rule.message or "leave " in rule.message, rule.message


def at_path(schema: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The schema at a path of fields; KeyError for one that does not exist, as the API server's type check would say."""
    for name in names:
        schema = schema["properties"][name]
    return schema


def test_rules_read_fields_that_exist() -> None:
    checked = 0
    for path, node in ALL:
        for rule in node.get("x-kubernetes-validations", []):
            text = re.sub(r"'[^']*'", "''", rule["rule"])
            at_path(node, [name for name in rule.get("fieldPath", "").split(".") if name])
            bound = {
                variable: at_path(node, chain.split(".")[1:])["items"]
                for chain, variable in re.findall(r"(self(?:\.\w+)+?)\.(?:all|exists|exists_one|filter)\((\w+),", text)
            }
            for head, chain in re.findall(r"\b([a-zA-Z]\w*)((?:\.\w+\b(?!\())+)", text):
                if head == "oldSelf":
                    continue
                assert head == "self" or head in bound, f"{path}: {head} in {rule['rule']}"
                at_path(node if head == "self" else bound[head], chain.split(".")[1:])
                checked += 1
    assert checked > 40


#: cel-go's and Kubernetes' static estimate, roughly and from above: a bound on what one evaluation of each rule costs, times
#: how often its place may occur. A rule above 10 million is refused with its whole definition.
COST_LIMIT = 10_000_000


def test_rules_stay_within_the_cost_budget_of_the_api_server() -> None:
    def walk(schema: dict[str, Any], times: int) -> Iterator[tuple[str, int]]:
        for rule in schema.get("x-kubernetes-validations", []):
            yield rule["rule"], times * cost(rule["rule"], schema)
        for child in schema.get("properties", {}).values():
            yield from walk(child, times)
        if isinstance(schema.get("items"), dict):
            yield from walk(schema["items"], times * schema["maxItems"])

    def cost(rule: str, schema: dict[str, Any]) -> int:
        longest = max((n.get("maxLength", 0) for _, n in nodes(schema, "")), default=0)
        if "oldSelf" in rule:  # equality walks over no more than a request can hold
            return 3 * 2**20 // 10
        # each operation costs about one, and a string operation a tenth of the bytes (four a character) it reads
        once = len(re.findall(r"\w+|[-+*/<>=!&|?]+", rule)) + rule.count("'") * max(4 * longest // 10, 1)
        loops = 1
        for chain in re.findall(r"self((?:\.\w+)*?)\.(?:all|exists|exists_one|filter)\(", rule):
            loops *= at_path(schema, chain.split(".")[1:])["maxItems"]
        return once * loops * (max(4 * 48 // 10, 1) if loops > 1 else 1)

    for schema in SCHEMAS.values():
        estimates = list(walk(schema, 1))
        assert all(estimate < COST_LIMIT for _, estimate in estimates), max(estimates, key=lambda e: e[1])
        assert sum(estimate for _, estimate in estimates) < 10 * COST_LIMIT


def test_every_rule_is_broken_by_some_bad_plan() -> None:
    broken = {
        text.split(": ", 1)[1]
        for path, value, _, by in BAD_PLANS
        if by == "rule"
        for text in problems(SCHEMAS["AdaptationPlan"], changed(PLAN, path, value)).get("rule", [])
    }
    # Two sources are refused by maxProperties before the rule; these need an instance of their own.
    sources = {text for text in {r.message for rules in RULES.values() for r in rules} if "exactly one of" in text}
    local = {text for text in {r.message for rules in RULES.values() for r in rules} if text.startswith("local works")}
    probe = {rule.message for c in RULES if c.__name__ in ("ProbeSpec", "Fidelity") for rule in RULES[c]}
    budget = {rule.message for rule in RULES[next(c for c in RULES if c.__name__ == "AdaptationBudgetSpec")]}
    prices = {rule.message for rule in RULES[next(c for c in RULES if c.__name__ == "PriceListSpec")]}
    assert broken == {r.message for rules in RULES.values() for r in rules} - sources - local - probe - budget - prices


def test_money_that_nobody_has_is_refused() -> None:
    unknown = changed(PRICES, "spec.currency", "XQZ")
    assert "rule" in problems(SCHEMAS["PriceList"], unknown)
    with pytest.raises(ManifestError, match=r"spec\.currency is 'XQZ', which is no currency: write an ISO 4217 code"):
        parse(unknown)


def test_a_budget_without_a_cap_is_refused() -> None:
    without = changed(changed(BUDGET, "spec.maxProbeCost", REMOVE), "spec.maxAcceleratorSeconds", REMOVE)
    assert "rule" in problems(SCHEMAS["AdaptationBudget"], without)
    with pytest.raises(ManifestError, match=r"spec.maxProbeCost is missing: write an amount"):
        parse(without)


def test_sources_are_exactly_one_of() -> None:
    for cls in RULES:
        if cls.__name__ in ("ModelSource", "DataSource"):
            one, local = RULES[cls]
            assert rule_holds(one.rule, {"builtin": {}}) and rule_holds(local.rule, {"builtin": {}})
            assert not rule_holds(one.rule, {}) and not rule_holds(one.rule, {"builtin": {}, "pvc": {}})
            assert not rule_holds(local.rule, {"local": {}})


def test_a_probe_never_changes() -> None:
    (rule,) = SCHEMAS["AdaptationProbe"]["properties"]["spec"]["x-kubernetes-validations"]
    spec, other = (
        with_defaults(SCHEMAS["AdaptationProbe"], probe)["spec"]
        for probe in (PROBE, changed(PROBE, "spec.trials.0.seed", 1))
    )
    assert rule_holds(rule["rule"], spec, spec)
    assert not rule_holds(rule["rule"], other, spec)


def test_a_training_that_is_stopped_early_says_when_and_no_other() -> None:
    early = changed(PROBE, "spec.trials.0.fidelity.method", "Early")
    for probe in (early, changed(PROBE, "spec.trials.0.fidelity.schedulePercent", 10)):
        assert "rule" in problems(SCHEMAS["AdaptationProbe"], probe)
        with pytest.raises(ManifestError, match=r"schedulePercent is .*: write it with method Early, such as 10, and"):
            parse(probe)
    both = changed(early, "spec.trials.0.fidelity.schedulePercent", 10)
    assert not problems(SCHEMAS["AdaptationProbe"], both) and parse(both)


@settings(max_examples=25, deadline=None)
@given(plans())
def test_what_the_models_take_and_write_the_server_takes(document: dict[str, Any]) -> None:
    found = problems(SCHEMAS["AdaptationPlan"], parse(document).to_wire())
    assert {text for text in found.pop("rule", []) if "local works" not in text} == set()
    assert found == {}


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(["maxProbeCost", "maxAcceleratorSeconds", "onExceeded"]),
    st.one_of(
        st.text(alphabet="0123456789.eE+-_ x", max_size=8),
        st.integers(-3, 2**54),
        st.booleans(),
        st.sampled_from(["Fail", "0.1234567891", "1" * 13, "1" * 12, "٣", "1.5\n", "recommend"]),
    ),
)
def test_models_and_schema_agree(field: str, value: Any) -> None:
    document = changed(PLAN, f"spec.budget.{field}", value)
    by_schema = problems(SCHEMAS["AdaptationPlan"], document)
    try:
        parse(document)
    except ManifestError as error:
        assert by_schema, str(error)
    else:
        assert not by_schema


def test_defaults_are_the_models_own() -> None:
    spec = with_defaults(SCHEMAS["AdaptationPlan"], PLAN)["spec"]
    wire = parse(PLAN).to_wire()["spec"]
    assert spec["probing"] == wire["probing"]
    assert spec["task"] == wire["task"]
    assert spec["objective"] == wire["objective"]
    assert parse({**PLAN, "spec": spec}) == parse(PLAN), "the stored object means what its author wrote"
