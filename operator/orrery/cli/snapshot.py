"""How plans stand at this moment, from state folders or from the API server's objects, in one form."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orrery.api.probe import ProbeSpec
from orrery.api.quantities import format_decimal
from orrery.api.status import PlanStatus
from orrery.local import processes
from orrery.local.attempts import parse_timestamp
from orrery.local.files import StateError, unreadable
from orrery.local.publish import PLAN, PRICES, read_status
from orrery.local.store import Store

#: Phases in which nothing more happens without a person.
SETTLED = frozenset({"Answered", "Infeasible", "Stalled", "Suspended", "Failed"})


@dataclass(frozen=True)
class Probe:
    """An attempt that is open."""

    name: str
    model: str
    what: str  #: its trials, counted by strategy
    state: str  #: queued, running, or ended: over, and nobody has written that down yet
    started: float | None  #: seconds since the epoch
    deadline_seconds: float
    message: str = ""

    def ran(self) -> float:
        """Seconds since it started; 0 before."""
        return max(0.0, time.time() - self.started) if self.started is not None else 0.0


@dataclass(frozen=True)
class Snapshot:
    """A plan, its answer so far, its money, and the probes that are open."""

    namespace: str
    name: str
    currency: str
    budget: str
    status: PlanStatus
    probes: tuple[Probe, ...]
    current: bool = True  #: whether the status is about the spec as it is now

    @property
    def settled(self) -> bool:
        """Whether nothing more is to be expected."""
        return self.current and not self.probes and self.status.phase in SETTLED

    @property
    def message(self) -> tuple[str, str]:
        """Reason and sentence of what it waits for, or of its answer."""
        by_type = {c.type: c for c in self.status.conditions}
        for kind in ("Stalled", "Reconciling", "Ready"):
            if (found := by_type.get(kind)) and found.status == "True":
                return found.reason, found.message
        rests = by_type.get("Ready") or by_type.get("Reconciling")
        return (rests.reason, rests.message) if rests else ("", "")

    def document(self) -> dict[str, Any]:
        """For machines; the same as long as nothing happened."""
        spend, reason = self.status.spend, self.message
        best = self.status.recommendation
        return {
            "namespace": self.namespace,
            "plan": self.name,
            "phase": self.status.phase,
            "settled": self.settled,
            "reason": reason[0],
            "message": reason[1],
            "currency": self.currency,
            "budget": self.budget,
            "spent": format_decimal(spend.cost) if spend else "0",
            "reserved": format_decimal(spend.reserved) if spend else "0",
            "progress": self.status.progress.to_wire() if self.status.progress else {},
            "recommendation": best.to_wire() if best else None,
            "probes": [
                {"name": p.name, "model": p.model, "trials": p.what, "state": p.state, "message": p.message}
                for p in self.probes
            ],
        }


def trials(spec: ProbeSpec) -> str:
    """A probe's trials, counted by strategy."""
    counted = Counter(trial.strategy for trial in spec.trials)
    return ", ".join(f"{count} {strategy}" for strategy, count in sorted(counted.items()))


# ---- this machine


def folders(root: Path) -> list[Path]:
    """The state folder itself, or every one below a root such as ``.orrery``; StateError when there is none."""
    if (root / PLAN).exists():
        return [root]
    found = sorted(path.parent for pattern in (f"*/{PLAN}", f"*/*/{PLAN}") for path in root.glob(pattern))
    if not found:
        raise StateError(
            f"no plan has a state below {root}: `orrery run` one first, or watch the cluster with --namespace or --all"
        )
    return found


def of_folder(folder: Path) -> Snapshot:
    """What a state folder says; nothing is written or locked for longer than a look."""
    plan, prices = _document(folder / PLAN), _document(folder / PRICES)
    meta, store = plan.get("metadata", {}), Store(folder)
    status = read_status(folder) or PlanStatus()
    probes = []
    for attempt in store.all_attempts():
        if not attempt.in_flight:
            continue
        spec, alive = store.spec(attempt.folder / "spec.yaml"), processes.alive(attempt.folder)
        at = attempt.record.started_at
        probes.append(
            Probe(
                attempt.probe,
                spec.model.name,
                trials(spec),
                "running" if alive else "ended",
                parse_timestamp(at) if at else None,
                float(attempt.record.deadline_seconds),
                "" if alive else "no run is there to write down how: `orrery run` the plan again",
            )
        )
    return Snapshot(
        str(meta.get("namespace", "default")),
        str(meta.get("name", folder.name)),
        str(prices.get("spec", {}).get("currency", "")),
        str(plan.get("spec", {}).get("budget", {}).get("maxProbeCost", "")),
        status,
        tuple(probes),
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise unreadable(path, error, f"is {path.parent} a state folder? `orrery run` writes it anew") from None
    return value if isinstance(value, dict) else {}


# ---- a cluster


def of_objects(plans: Iterable[Mapping[str, Any]], probes: Sequence[Mapping[str, Any]]) -> Iterator[Snapshot]:
    """Plans of the API server with their probes; fields that this version does not know are left out."""
    for body in plans:
        meta, status = body["metadata"], PlanStatus.model_validate(body.get("status") or {})
        mine = [p for p in probes if p["metadata"].get("namespace") == meta.get("namespace") and _owned(p, meta)]
        yield Snapshot(
            str(meta.get("namespace", "default")),
            str(meta["name"]),
            status.spend.currency if status.spend else "",
            str(body.get("spec", {}).get("budget", {}).get("maxProbeCost", "")),
            status,
            tuple(found for p in mine if (found := _open_probe(p)) is not None),
            status.observed_generation == meta.get("generation"),
        )


def _owned(probe: Mapping[str, Any], plan: Mapping[str, Any]) -> bool:
    return any(ref.get("uid") == plan.get("uid") for ref in probe["metadata"].get("ownerReferences") or [])


def _open_probe(body: Mapping[str, Any]) -> Probe | None:
    attempts = (body.get("status") or {}).get("attempts") or []
    latest = attempts[-1] if attempts else {}
    if latest.get("phase") not in ("Reserved", "Queued", "Running"):
        return None
    spec, running = body["spec"], latest["phase"] == "Running"
    counted = Counter(trial["strategy"] for trial in spec["trials"])
    at = latest.get("startedAt")
    return Probe(
        body["metadata"]["name"],
        spec["model"]["name"],
        ", ".join(f"{count} {strategy}" for strategy, count in sorted(counted.items())),
        "running" if running else "queued",
        parse_timestamp(at) if at and running else None,
        float(spec["deadlineSeconds"]),
        "" if running else str(latest.get("message") or latest.get("reason") or ""),
    )
