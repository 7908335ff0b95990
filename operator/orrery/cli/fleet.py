"""The cheapest mix of accelerators for an answer, as ``orrery explain`` shows it."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from orrery.api.plan import AdaptationPlan
from orrery.cli.screen import figure, listing
from orrery.planning.fleet import Fleet


def as_document(found: Fleet, plan: AdaptationPlan, currency: str) -> dict[str, Any]:
    """For programs."""
    buckets = [
        {
            "answerTokens": tokens,
            "share": float(share),
            "latencyMilliseconds": {k: 1000 * v for k, v in zip(found.kinds, late.tolist(), strict=True)},
        }
        for tokens, share, late in zip(found.answer_tokens, found.shares, found.latency, strict=True)
    ]
    kinds = [
        {
            "accelerator": name,
            "pricePerHour": price,
            "replicas": 0 if found.mix is None else found.mix.replicas[k],
            "servedShare": 0.0 if found.mix is None else float(found.shares @ found.mix.shares[:, k]),
            "replicasAlone": None if (one := found.alone[k]) is None else one.replicas[0],
        }
        for k, (name, price) in enumerate(zip(found.kinds, found.prices, strict=True))
    ]
    return {
        "currency": currency,
        "maxLatencyMilliseconds": plan.spec.objective.max_latency_milliseconds,
        "costPerHour": None if found.mix is None else found.mix.price_per_hour,
        "accelerators": kinds,
        "buckets": buckets,
        "excluded": dict(found.excluded),
        "problem": found.problem,
    }


def as_table(found: Fleet, plan: AdaptationPlan, currency: str) -> RenderableType:
    """For people: each kind alone beside the mix, and what the mix comes to over the horizon."""
    rows: list[tuple[list[str], str]] = []
    for k, (name, price) in enumerate(zip(found.kinds, found.prices, strict=True)):
        one = found.alone[k]
        cells = [name, figure(price), f"{1000 * found.latency[:, k].max():,.0f}"]
        cells += ["too slow", "-"] if one is None else [str(one.replicas[0]), figure(one.price_per_hour)]
        served = 0.0 if found.mix is None else float(found.shares @ found.mix.shares[:, k])
        cells += ["-", "-"] if found.mix is None else [str(found.mix.replicas[k]), f"{served:.0%}"]
        rows.append((cells, ""))
    rows += [([name, *["-"] * 6], why) for name, why in found.excluded]
    head = ["accelerator", f"{currency} / h", "slowest ms", "alone", f"alone {currency} / h", "in the mix", "requests"]
    table = listing(head, rows, right=head[1:])
    if found.mix is None:
        return Group(table, Text(f"no mix: {found.problem}"))
    return Group(table, Text(found.sentence(plan.spec, currency)))
