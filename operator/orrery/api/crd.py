"""CustomResourceDefinitions from the models: structural schemas that current API servers accept whole.

Structural means: no references, no unions, a type everywhere, and a bound on every list, string and map. Optional fields
are simply absent; defaults are written out, so that ``kubectl get -o yaml`` shows what a plan means. See
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/ (structural schemas).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from orrery.api import yamltext
from orrery.api.adaptation_budget import AdaptationBudget
from orrery.api.base import GROUP, VERSION
from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.probe import AdaptationProbe
from orrery.api.rules import RULES, Rule

Schema = dict[str, Any]

_KEPT = (
    "type",
    "format",
    "description",
    "default",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "x-kubernetes-int-or-string",
    "x-kubernetes-validations",
)


@dataclass(frozen=True)
class Column:
    """A column of ``kubectl get``; those with priority 1 show with ``-o wide``."""

    name: str
    path: str
    description: str
    type: str = "string"
    priority: int = 0

    def to_wire(self) -> Schema:
        """As in ``additionalPrinterColumns``."""
        return {
            "name": self.name,
            "type": self.type,
            "description": self.description,
            "jsonPath": self.path,
            **({"priority": self.priority} if self.priority else {}),
        }


@dataclass(frozen=True)
class Resource:
    """What a definition says beside its schema."""

    model: type[BaseModel]
    plural: str
    short: str
    namespaced: bool
    columns: tuple[Column, ...]

    @property
    def name(self) -> str:
        """Name of the definition, such as ``adaptationplans.orrery.dev``."""
        return f"{self.plural}.{GROUP}"


_AGE = Column("Age", ".metadata.creationTimestamp", "Time since the object was created.", "date")
# it says the same as Ready, which a plan that rests does not have
_STANDS = '.status.conditions[?(@.type=="Reconciling")]'

RESOURCES = (
    Resource(
        AdaptationPlan,
        "adaptationplans",
        "aplan",
        True,
        (
            Column("Phase", ".status.phase", "The conditions in a word."),
            Column("Model", ".status.recommendation.model", "Recommended model."),
            Column("Strategy", ".status.recommendation.strategy", "Recommended strategy."),
            Column("Quality", ".status.recommendation.quality.predicted", "Predicted quality."),
            Column("Cost", ".status.recommendation.cost.total", "Predicted cost to adapt and serve."),
            Column("Spent", ".status.spend.cost", "Cost of probing so far."),
            Column("Reason", f"{_STANDS}.reason", "Why it is or is not ready."),
            _AGE,
            Column("Confidence", ".status.recommendation.confidence", "Probability that constraints hold.", priority=1),
            Column("Budget", ".spec.budget.maxProbeCost", "Most that probing may cost.", priority=1),
            Column("Message", f"{_STANDS}.message", "Why, as a sentence.", priority=1),
        ),
    ),
    Resource(
        AdaptationProbe,
        "adaptationprobes",
        "aprobe",
        True,
        (
            Column("Phase", ".status.phase", "Where the latest attempt stands."),
            Column("Model", ".spec.model.name", "Model that is loaded."),
            Column("Trials", ".spec.trials[*].strategy", "Strategy of the first trial."),
            Column("Seconds", ".status.attempts[-1:].seconds", "Accelerator-seconds of the latest attempt."),
            Column("Cost", ".status.attempts[-1:].cost", "Cost of the latest attempt."),
            Column("Reason", ".status.reason", "Why it failed or waits."),
            _AGE,
            Column("Attempt", ".status.attempts[-1:].number", "Number of the latest attempt.", "integer", 1),
            Column("Message", ".status.message", "Why, as a sentence.", priority=1),
        ),
    ),
    Resource(
        PriceList,
        "pricelists",
        "plist",
        False,
        (
            Column("Currency", ".spec.currency", "ISO 4217 code."),
            Column("Date", ".spec.date", "Day the prices were read."),
            Column("Source", ".spec.source", "Where they are from."),
            _AGE,
        ),
    ),
    Resource(
        AdaptationBudget,
        "adaptationbudgets",
        "abudget",
        True,
        (
            Column("Month", ".status.month", "Month of the account, UTC."),
            Column("Cap", ".spec.maxProbeCost", "Most that probing may cost in it."),
            Column("Spent", ".status.spent", "Paid for attempts that have ended."),
            Column("Reserved", ".status.reserved", "Worst case of those in flight."),
            Column("Currency", ".spec.currency", "ISO 4217 code."),
            Column("Available", '.status.conditions[?(@.type=="Available")].status', "Whether something is left."),
            _AGE,
            Column("Seconds", ".spec.maxAcceleratorSeconds", "Most accelerator time.", "integer", 1),
            Column("Spent-Seconds", ".status.spentAcceleratorSeconds", "Accelerator time used.", priority=1),
            Column("Renews", ".status.renewsAt", "When the next month begins.", priority=1),
        ),
    ),
)


class _Generator(GenerateJsonSchema):
    """pydantic's generator, with computed defaults written out and each class's CEL rules attached."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> Schema:
        if "default_factory" in schema and not schema.get("default_factory_takes_data"):
            value = schema["default_factory"]()  # type: ignore[call-arg]  # it takes no data, as just checked
            inner = self.generate_inner(schema["schema"])
            if isinstance(value, BaseModel):  # its fields bring their own defaults
                return {**inner, "default": {}}
            return {**inner, "default": value} if value else inner
        return super().default_schema(schema)

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        made = super().model_schema(schema)
        rules: tuple[Rule, ...] = RULES.get(schema["cls"], ())
        if rules:
            made["x-kubernetes-validations"] = [rule.to_wire() for rule in rules]
        return made


def _structural(schema: Mapping[str, Any], defs: Mapping[str, Any], with_defaults: bool) -> Schema:
    """One schema node without references or unions; a field's own description wins over its type's."""
    if "$ref" in schema:
        target = defs[schema["$ref"].rsplit("/", 1)[-1]]
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return _structural({**target, **beside}, defs, with_defaults)
    if "anyOf" in schema:
        (chosen,) = (option for option in schema["anyOf"] if option.get("type") != "null")
        beside = {key: value for key, value in schema.items() if key != "anyOf"}
        return _structural({**_expanded(chosen, defs), **beside}, defs, with_defaults)
    node = {key: schema[key] for key in _KEPT if key in schema}
    if "const" in schema:
        node["enum"] = [schema["const"]]
    if node.get("default", ...) in (None, "") or not with_defaults:  # API servers of 1.20 read "" as null
        node.pop("default", None)
    if node.get("type") == "integer":
        node["format"] = "int64"
    if node.get("type") == "array":
        keys = schema.get("x-list-map-key")
        node["x-kubernetes-list-type"] = "map" if keys else schema.get("x-kubernetes-list-type", "atomic")
        if keys:
            node["x-kubernetes-list-map-keys"] = [keys] if isinstance(keys, str) else list(keys)
        node["items"] = _structural(schema["items"], defs, with_defaults)
    if isinstance(schema.get("additionalProperties"), dict):
        node["additionalProperties"] = _structural(schema["additionalProperties"], defs, with_defaults)
    if "properties" in schema:
        if schema.get("required"):
            node["required"] = list(schema["required"])
        node["properties"] = {
            name: _structural(child, defs, with_defaults) for name, child in schema["properties"].items()
        }
    return node


def _expanded(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in schema:
        return schema
    return {**defs[schema["$ref"].rsplit("/", 1)[-1]], **{k: v for k, v in schema.items() if k != "$ref"}}


def schema_of(resource: Resource) -> Schema:
    """OpenAPI v3 schema of a whole object, as ``openAPIV3Schema`` has it.

    The status has no defaults: an API server that fills them in would differ for ever from what the operator writes.
    """
    made = resource.model.model_json_schema(by_alias=True, schema_generator=_Generator)
    defs, fields = made.get("$defs", {}), made["properties"]
    properties: Schema = {
        "apiVersion": {"type": "string", "description": "Version of this schema: orrery.dev/v1alpha1."},
        "kind": {"type": "string", "description": f"Kind of this object: {resource.model.__name__}."},
        "metadata": {"type": "object"},
        "spec": _structural(fields["spec"], defs, with_defaults=True),
    }
    if "status" in fields:
        properties["status"] = _structural(fields["status"], defs, with_defaults=False)
    root: Schema = {"type": "object", "description": made["description"], "required": ["spec"]}
    if "x-kubernetes-validations" in made:
        root["x-kubernetes-validations"] = made["x-kubernetes-validations"]
    return {**root, "properties": properties}


def definition(resource: Resource) -> Schema:
    """The CustomResourceDefinition object."""
    kind = resource.model.__name__
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [column.to_wire() for column in resource.columns],
        "schema": {"openAPIV3Schema": schema_of(resource)},
    }
    if "status" in resource.model.model_fields:
        version["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": resource.name, "labels": {"app.kubernetes.io/name": "orrery"}},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": resource.plural,
                "singular": kind.lower(),
                "shortNames": [resource.short],
                "categories": ["orrery"],
            },
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "versions": [version],
        },
    }


@cache
def documents() -> Mapping[str, str]:
    """File name to YAML text of every definition; the same bytes every time."""
    texts = {
        f"{resource.name}.yaml": "# Generated by `orrery crds`. Change operator/orrery/api instead.\n"
        + yamltext.write(definition(resource))
        for resource in RESOURCES
    }
    return MappingProxyType(texts)
