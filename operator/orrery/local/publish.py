"""The answer as files: ``status.yaml`` for people and scripts, ``results.jsonl`` with every candidate."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from orrery.api import yamltext
from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.quantities import Interval
from orrery.api.status import Condition, PlanStatus
from orrery.local import files
from orrery.local.attempts import timestamp
from orrery.planning.types import ResultRow, Step

#: What brings back a file that follows from the others.
_AGAIN = "`orrery run` the plan again, which writes it anew"
PLAN, PRICES, STATUS, RESULTS = "plan.yaml", "prices.yaml", "status.yaml", "results.jsonl"


def write_inputs(folder: Path, plan: AdaptationPlan, prices: PriceList) -> None:
    """Keep what is being answered beside the answer, for ``orrery explain`` and for whoever asks later."""
    _write_changed(folder / PLAN, yamltext.write(plan.model_copy(update={"status": None}).to_wire()))
    _write_changed(folder / PRICES, yamltext.write(prices.to_wire()))


def check_inputs(folder: Path, plan: AdaptationPlan, prices: PriceList) -> None:
    """Raises StateError when the folder is another plan's, or its money is in another currency."""
    before, paid_in = _document(folder / PLAN), _document(folder / PRICES)
    name, found = plan.metadata.name, before.get("metadata", {}).get("name", plan.metadata.name)
    if found != name:
        raise files.StateError(
            f"{folder} holds the state of the plan '{found}', and this one is '{name}': give it its own --state DIR"
        )
    currency = paid_in.get("spec", {}).get("currency", prices.spec.currency)
    if currency != prices.spec.currency and any(folder.glob("probes/*/attempt-*")):
        raise files.StateError(
            f"spec.pricing.priceListRef: '{prices.metadata.name}' is in {prices.spec.currency}, and the probes in {folder} "
            f"were paid in {currency}: give a PriceList in {currency}, or begin anew with another --state DIR"
        )


def _document(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return value if isinstance(value, dict) else {}


def publish(folder: Path, plan: AdaptationPlan, step: Step, now: float) -> PlanStatus:
    """Write the step's status and rows; gives the status with its times."""
    status = stamp(step.status, read_status(folder), plan.metadata.generation, now)
    status = status.model_copy(update={"results_ref": RESULTS})
    _write_changed(folder / STATUS, yamltext.write(status.to_wire()))
    _write_changed(folder / RESULTS, "".join(row_line(row) for row in step.rows))
    return status


def read_status(folder: Path) -> PlanStatus | None:
    """The status as it was last written, if any."""
    try:
        return PlanStatus.model_validate(yaml.safe_load((folder / STATUS).read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError):
        return None  # it is derived: the next step writes it anew


def read_plan(folder: Path) -> AdaptationPlan:
    """The plan as ``write_inputs`` wrote it, by libyaml: five times as fast as reading what a person wrote.

    Raises StateError when it is no plan.
    """
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return AdaptationPlan.model_validate(yaml.load((folder / PLAN).read_text(encoding="utf-8"), Loader=loader))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise files.unreadable(folder / PLAN, error, _AGAIN) from None


def read_rows(folder: Path) -> list[ResultRow]:
    """Every candidate as it was last known; raises StateError when they are not what was written."""
    path = folder / RESULTS
    try:
        return [parse_row(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise files.unreadable(path, error, _AGAIN) from None


def stamp(status: PlanStatus, previous: PlanStatus | None, generation: int, now: float) -> PlanStatus:
    """Add the times that pure code cannot know; a condition that did not change keeps its own."""
    before = {c.type: c for c in previous.conditions} if previous else {}

    def stamped(condition: Condition) -> Condition:
        old = before.get(condition.type)
        same = old is not None and old.status == condition.status and old.last_transition_time is not None
        return condition.model_copy(
            update={
                "observed_generation": generation,
                "last_transition_time": old.last_transition_time if old is not None and same else timestamp(now),
            }
        )

    return status.model_copy(
        update={"observed_generation": generation, "conditions": [stamped(c) for c in status.conditions]}
    )


def row_line(row: ResultRow) -> str:
    """One JSON line; numbers that are not finite become null, since JSON has none."""
    return json.dumps(_finite(asdict(row)), ensure_ascii=False, separators=(",", ":")) + "\n"


def parse_row(line: str) -> ResultRow:
    """The row of a line that ``row_line`` wrote."""
    value: dict[str, Any] = json.loads(line)
    for name in ("quality", "adaptation_cost", "serving_cost", "total_cost"):
        bounds = value[name]
        value[name] = Interval(**bounds) if bounds is not None and None not in bounds.values() else None
    value["configuration"] = tuple((name, text) for name, text in value["configuration"])
    return ResultRow(**value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _write_changed(path: Path, text: str) -> None:
    """A file that says the same is not touched: its time then tells when the answer last changed."""
    try:
        if path.read_text(encoding="utf-8") == text:
            return
    except OSError:
        pass
    files.write_atomic(path, text)


def ordered(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Best first, as a table shows them: the recommended, its rivals by cost, then what was rejected."""
    rank = {"Recommended": 0, "Alternative": 1}
    return sorted(
        rows,
        key=lambda r: (rank.get(r.status, 2), r.total_cost.median if r.total_cost else math.inf, r.candidate),
    )
