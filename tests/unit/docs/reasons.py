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
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if CALLS.match(name):
                for argument in node.args:
                    yield from _constants(argument)
            for keyword in node.keywords:
                if keyword.arg == "reason":
                    yield from _constants(keyword.value)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "reason":
                    yield from _constants(value)
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and len(node.value.elts) == 2:
            yield from _constants(node.value.elts[0])
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            names = [getattr(target, "id", "") for target in node.targets[0].elts]
            if "reason" in names:
                for value in (
                    (node.value.body, node.value.orelse) if isinstance(node.value, ast.IfExp) else (node.value,)
                ):
                    if isinstance(value, ast.Tuple):
                        yield from _constants(value.elts[names.index("reason")])
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name == "reason":
                yield from _constants(node.value)
            if name == "fits" and isinstance(node.value, ast.Subscript) and isinstance(node.value.value, ast.Dict):
                for value in node.value.value.values:
                    yield from _constants(value)
            elif name.isupper():
                yield from _constants(node.value)
                if name.endswith(("FAILURES", "REASONS", "UNREACHABLE")):
                    for part in ast.walk(node.value):
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
