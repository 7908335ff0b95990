"""What an API server does with a structural schema: defaults, bounds, list-map keys, and CEL rules.

Old servers drop CEL in silence, so the rules are evaluated here by a CEL implementation; the bounds and defaults are
checked on a real server in tests/integration as well.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import cel
import jsonschema

Schema = dict[str, Any]


def with_defaults(schema: Schema, value: Any) -> Any:
    """A copy with absent fields defaulted, from the top down, as the API server does before it validates."""
    value = copy.deepcopy(value)
    if isinstance(value, dict):
        for name, child in schema.get("properties", {}).items():
            if name not in value and "default" in child:
                value[name] = copy.deepcopy(child["default"])
            if name in value:
                value[name] = with_defaults(child, value[name])
    elif isinstance(value, list) and "items" in schema:
        value = [with_defaults(schema["items"], item) for item in value]
    return value


def _plain(schema: Schema) -> Schema:
    """The schema for a JSON Schema validator: int-or-string spelled out, unknown fields refused (strict field validation)."""
    made: Schema = {key: value for key, value in schema.items() if not key.startswith("x-") and key != "default"}
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    if "pattern" in schema:  # Go's $ is the end of the text, Python's may stand before a last line break
        made["pattern"] = re.sub(r"\$$", r"\\Z", schema["pattern"])
    if "properties" in schema:
        made["properties"] = {name: _plain(child) for name, child in schema["properties"].items()}
        made["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            made[key] = _plain(schema[key])
    return made


_VALIDATORS: dict[int, tuple[Schema, Any]] = {}


def _validator(schema: Schema) -> Any:
    if id(schema) not in _VALIDATORS:  # keeps the schema too, so that its id stays its own
        checker = jsonschema.FormatChecker()
        _VALIDATORS[id(schema)] = (schema, jsonschema.Draft202012Validator(_plain(schema), format_checker=checker))
    return _VALIDATORS[id(schema)][1]


def _key(schema: Schema, item: Any) -> tuple[Any, ...]:
    return tuple(item.get(key) for key in schema["x-kubernetes-list-map-keys"])


def _duplicates(schema: Schema, value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, child in schema.get("properties", {}).items():
            if name in value:
                yield from _duplicates(child, value[name], f"{path}.{name}")
    elif isinstance(value, list):
        if "x-kubernetes-list-map-keys" in schema and len({_key(schema, item) for item in value}) < len(value):
            yield f"{path}: duplicate"
        if schema.get("x-kubernetes-list-type") == "set" and len({(type(v), v) for v in value}) < len(value):
            yield f"{path}: duplicate"
        for index, item in enumerate(value):
            yield from _duplicates(schema["items"], item, f"{path}[{index}]")


def rule_holds(rule: str, value: Any, old: Any = None) -> bool:
    """A CEL rule over ``self`` (and ``oldSelf``), with Kubernetes' own functions beside the standard ones."""
    context = cel.Context(variables={"self": value, **({"oldSelf": old} if old is not None else {})})
    context.add_function("indexOf", lambda text, part: text.find(part))
    context.add_function("lastIndexOf", lambda text, part: text.rfind(part))
    context.add_function("isSorted", lambda items: items == sorted(items))
    result = cel.evaluate(rule, context)
    assert isinstance(result, bool), f"{rule} is {result!r}"
    return result


def _broken_rules(schema: Schema, value: Any, path: str) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", []):
        if "oldSelf" not in rule["rule"] and not rule_holds(rule["rule"], value):
            yield f"{path}{rule.get('fieldPath', '')}: {rule['message']}"
    if isinstance(value, dict):
        for name, child in schema.get("properties", {}).items():
            if name in value:
                yield from _broken_rules(child, value[name], f"{path}.{name}" if path else name)
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from _broken_rules(schema["items"], item, f"{path}[{index}]")


def problems(schema: Schema, value: Any) -> dict[str, list[str]]:
    """Why an object is refused: by the ``schema``, by a list-map ``key``, or by a ``rule``; rules run only on what has shape."""
    full = with_defaults(schema, {key: child for key, child in value.items() if key != "metadata"})
    validator = _validator(schema)
    found = {"schema": [f"{e.json_path}: {e.message}" for e in validator.iter_errors(full)]}
    if not found["schema"]:
        found["key"] = list(_duplicates(schema, full, ""))
        found["rule"] = list(_broken_rules(schema, full, ""))
    return {kind: texts for kind, texts in found.items() if texts}
