"""What `orrery run` decides on the very reports that a cluster's probes gave: it must be what the operator has decided.

Nothing is measured again: a run for which another measurement would be worth its price has not decided the same, and is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from orrery.api.load import parse
from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.probe import ProbeSpec, Report
from orrery.local import engine
from orrery.local.facts import read_facts
from orrery.local.store import Store
from orrery.planning.advance import advance
from orrery.probes.locations import SourceRoots

#: What two decisions are compared by; the rest of a status is where and when its probes ran.
DECISION = ("recommendation", "alternatives", "frontier")


class FurtherProbe(Exception):  # noqa: N818  # reads as what happened
    """The run would measure something that the cluster did not."""


class _Silent:
    """An observer of a run that shows nothing."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def decided_locally(
    plan: Mapping[str, Any], probes: Iterable[Mapping[str, Any]], prices: Mapping[str, Any], state: Path
) -> dict[str, Any]:
    """The status of a run of the same plan, in an empty state folder, whose measurements are those of the cluster's probes.

    ``plan``, ``probes`` and ``prices`` as the API server has them. Raises FurtherProbe.
    """
    asked = parse({k: v for k, v in plan.items() if k != "status"})
    priced = parse({**prices, "metadata": {"name": prices["metadata"]["name"]}})
    assert isinstance(priced, PriceList) and isinstance(asked, AdaptationPlan)
    store = Store(state)
    measured = 0
    for probe in probes:
        told = (probe.get("status") or {}).get("report")
        if told is not None:
            measured += 1
            store.write_reused(ProbeSpec.model_validate(probe["spec"]), Report.model_validate(told), "the cluster")

    def start(spec: Path, _: Path) -> list[str]:
        raise FurtherProbe(f"the run would measure more than the {measured} probes of the cluster: {spec.read_text()}")

    # as the command reads them: of a hub's repositories that are not in this machine's cache, nothing is known
    facts = read_facts(asked, SourceRoots(), lambda sentence: None)
    answer = engine.run(asked, priced, facts, engine.Settings(state, start), advance, _Silent(), engine.Stop())
    assert answer.step.finished and len(answer.records) == measured
    return answer.step.status.to_wire()


def differences(cluster: Mapping[str, Any], local: Mapping[str, Any]) -> list[str]:
    """What two statuses decide otherwise, a sentence each; empty when the decision is the same to the last digit."""
    return [
        f"{part}: the operator says {cluster.get(part)!r} and `orrery run` says {local.get(part)!r}"
        for part in DECISION
        if cluster.get(part) != local.get(part)
    ]
