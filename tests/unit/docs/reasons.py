"""Every reason that the code can write to a condition, an attempt, a report or an Event: read out of its syntax, not imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[3] / "operator" / "orrery"
CAMEL = re.compile(r"^[A-Z][a-z]+(?:[A-Z][a-z0-9]+)*$")
#: Where a constant is a reason when it is an argument.
CALLS = re.compile(
    r"^(Verdict|Unusable|Refusal|Judgement|Condition|failure|give_up|one|_?stall(ed)?|_?record|_told|error_type|\w*Error|refuse|_refused)$"
)
#: What stands in such places and is no reason: condition types, their statuses, kinds, types of Events.
_OTHERS = """
True False Unknown Normal Warning
Ready Reconciling Stalled Validated ProbesCompleted BudgetAvailable Feasible
AdaptationPlan AdaptationProbe AdaptationBudget PriceList Event Job Pod
Pending Reserved Queued Running Succeeded
"""
OTHERS = frozenset(_OTHERS.split())


def _constants(node: ast.expr) -> Iterator[str]:
    """Words that an expression may come to: itself, either side of a condition, the values of a table, the parts of an `or`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and CAMEL.match(node.value):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _constants(node.body)
        yield from _constants(node.orelse)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _constants(value)


def _found(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call():
                yield from _of_call(node)
            case ast.Dict():
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "reason":
                        yield from _constants(value)
            case ast.Return(value=ast.Tuple(elts=[first, _])):
                yield from _constants(first)
            case ast.Assign(targets=[ast.Tuple(elts=targets), *_]):
                yield from _of_pair([getattr(target, "id", "") for target in targets], node.value)
            case ast.Assign(targets=[ast.Name(id=name), *_]):
                yield from _of_name(name, node.value)


def _of_call(node: ast.Call) -> Iterator[str]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    for argument in node.args if CALLS.match(name) else ():
        yield from _constants(argument)
    for keyword in node.keywords:
        if keyword.arg == "reason":
            yield from _constants(keyword.value)


def _of_pair(names: list[str], value: ast.expr) -> Iterator[str]:
    """``reason, message = "Word", "A sentence."``, or a condition between two such pairs."""
    for pair in (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,):
        if "reason" in names and isinstance(pair, ast.Tuple):
            yield from _constants(pair.elts[names.index("reason")])


def _of_name(name: str, value: ast.expr) -> Iterator[str]:
    """A reason, a table of them, or a constant."""
    if name == "reason" or name.isupper():
        yield from _constants(value)
    if name == "fits" and isinstance(value, ast.Subscript) and isinstance(value.value, ast.Dict):
        for entry in value.value.values:
            yield from _constants(entry)
    if name.isupper() and name.endswith(("FAILURES", "REASONS", "UNREACHABLE")):
        for part in ast.walk(value):
            if isinstance(part, ast.Constant):
                yield from _constants(part)


def reasons() -> dict[str, str]:
    """Reason to the module that writes it."""
    found: dict[str, str] = {}
    for folder in ("planning", "controller", "local", "probes"):
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            for word in _found(ast.parse(path.read_text(encoding="utf-8"))):
                if word not in OTHERS:
                    found.setdefault(word, str(path.relative_to(PACKAGE)))
    return found
