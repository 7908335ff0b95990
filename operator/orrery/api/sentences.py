"""pydantic's errors as sentences: where in the manifest, what stands there, what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel

Location = Sequence[str | int]

_PATTERNS = {
    r"^[a-z0-9]([-a-z0-9.]{0,46}[a-z0-9])?$": (
        "a name of at most 48 lower-case letters, digits, '-' and '.', such as 'lora-r8'"
    ),
    r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$": "a name of lower-case letters, digits, '-' and '.', such as 'intents-1'",
    r"^[A-Z][A-Za-z0-9]*$": "one word in CamelCase, such as 'InContext'",
    r"^[a-z][A-Za-z0-9]*$": "one word in camelCase, such as 'learningRate'",
    r"^[1-9][0-9]{0,5}(Mi|Gi|Ti)$": "a size in Mi, Gi or Ti, such as '16Gi'",
    r"^[0-9]{1,6}m?$": "a number of CPUs, such as '4' or '500m'",
    r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$": "letters, digits, '-', '_' and '.', such as 'team-a'",
    r"^[a-z0-9][-a-z0-9.]*/[-A-Za-z0-9_.]+$": "an extended resource with its domain, such as 'nvidia.com/gpu'",
    r"^[^ \t\n]+$": "an image without spaces, such as 'registry.example.com/orrery-probe:1'",
    r"^[A-Z]{3}$": "a currency's ISO 4217 code, such as 'USD'",
    r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?$": "a repository as OWNER/NAME",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: a dotted path in camelCase, the value there, and the rest of the sentence."""

    field: str
    value: Any
    message: str

    def __str__(self) -> str:
        return f"{self.field} {self.message}"


def path_of(location: Location, document: Any) -> str:
    """Dotted path of a place in a document; entries of list-maps by name.

    >>> path_of(("spec", "models", 0, "source"), {"spec": {"models": [{"name": "tiny"}]}})
    'spec.models[tiny].source'
    """
    text, value = "", document
    for part in location:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            value = None
        if isinstance(part, int):
            name = value.get("name") if isinstance(value, dict) else None
            text += f"[{name if isinstance(name, str) and name else part}]"
        else:
            text += f".{part}" if text else part
    return text or "the manifest"


def nearest(word: Any, known: Iterable[str]) -> str:
    """``: did you mean 'x'?``, or nothing if no known word is near."""
    if not isinstance(word, str):
        return ""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.7)
    return f" (did you mean {by_lower[close[0]]}?)" if close else ""


def sentences(model: type[BaseModel], document: Any, error: dict[str, Any]) -> list[Problem]:
    """One of pydantic's error details, for a document that was read as ``model``: one problem, or all that a rule found."""
    location, context = error["loc"], error.get("ctx", {})
    if location and location[-1] == "[key]":
        location = location[:-1]
    path, value = path_of(location, document), error.get("input")
    if error["type"] == "rule":
        return [Problem(f"{path}.{below}" if below else path, value, said) for below, said in context["faults"]]
    return [Problem(path, value, _message(model, location, error["type"], value, error["msg"], context))]


def _message(
    model: type[BaseModel], location: Location, kind: str, value: Any, text: str, context: dict[str, Any]
) -> str:
    shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:77]}..."
    if kind == "value_error":
        return text.removeprefix("Value error, ")
    if kind == "missing":
        return f"is missing: write it ({_description(model, location)})"
    if kind == "extra_forbidden":
        known = _fields(_type_at(model, location[:-1]))
        return f"is no field here: write one of {', '.join(known)}{nearest(location[-1], known)}"
    if kind in ("enum", "literal_error"):
        choices = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        return f"is {shown}: write {'one of ' if len(choices) > 1 else ''}{', '.join(choices)}{nearest(value, choices)}"
    if kind == "greater_than_equal":
        return f"is {shown}: write at least {context['ge']}"
    if kind == "less_than_equal":
        return f"is {shown}: write at most {context['le']}"
    if kind == "string_too_long":
        return f"has {len(value)} characters: write at most {context['max_length']}"
    if kind == "string_too_short":
        return f"is {shown}: write at least {context['min_length']} character(s)"
    if kind == "too_long":
        return f"has {context['actual_length']} entries: write at most {context['max_length']}"
    if kind == "too_short":
        return f"has {context['actual_length']} entries: write at least {context['min_length']}"
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"]
        return f"is {shown}: write {_PATTERNS.get(pattern, f'text that matches {pattern}')}"
    if kind == "string_type":
        scalar = isinstance(value, (int, float))
        written = str(value).lower() if isinstance(value, bool) else value
        return f"is {shown}: write a string in quotes" + (f", '{written}'" if scalar else "")
    if kind.startswith(("int_", "float_")):
        return f"is {shown}: write a whole number" + (" without quotes" if isinstance(value, str) else "")
    if kind.startswith("bool_"):
        return f"is {shown}: write true or false, without quotes"
    if kind in ("model_type", "model_attributes_type", "dict_type", "dataclass_type"):
        known = _fields(_type_at(model, location))
        return f"is {shown}: write a mapping" + (f" with {', '.join(known)}" if known else " of strings")
    if kind == "list_type":
        return f"is {shown}: write a list"
    return f"is {shown}: {text[:1].lower()}{text[1:]}"


def _core(annotation: Any) -> Any:
    """What an annotation is about, without Annotated, Optional and list."""
    while True:
        arguments = [a for a in get_args(annotation) if a is not type(None)]
        if isinstance(annotation, type) and not arguments:
            return annotation
        if not arguments:
            return None
        annotation = arguments[-1] if getattr(annotation, "__origin__", None) is dict else arguments[0]


def _type_at(model: type[BaseModel], location: Location) -> Any:
    current: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            return None
        for name, info in current.model_fields.items():
            if part in (info.alias, name):
                current = _core(info.annotation)
                break
        else:
            return None
    return current


def _fields(current: Any) -> list[str]:
    if not (isinstance(current, type) and issubclass(current, BaseModel)):
        return []
    return [info.alias or name for name, info in current.model_fields.items()]


def _description(model: type[BaseModel], location: Location) -> str:
    parent = _type_at(model, location[:-1])
    if isinstance(parent, type) and issubclass(parent, BaseModel):
        for name, info in parent.model_fields.items():
            if location[-1] in (info.alias, name) and info.description:
                return info.description.rstrip(".")
    return "it is required"
