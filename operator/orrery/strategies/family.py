"""A large model forecast from measured smaller ones of its family, item by item, before it is ever loaded.

Direct measurements of the same configuration on the same evaluation items, one table a configuration with a column for each
smaller sibling, go to ``laws.cod`` (arXiv 2502.17262), with parameters for compute: siblings are trained on about as many
tokens. A probe answers an item once; what the siblings answered to the same items with other shots, retrievers, calibrations and
seeds are neighbouring attempts, by which items are told apart by difficulty (``cod.with_neighbours``). Where the small ones hardly solve anything, the rates are extrapolated as rare passes (PassUntil, ``laws.pass_until``):
a score of 0 on some hundred items says "below one percent", not "never".
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from orrery.api.probe import Method, Outcome, TrialResult
from orrery.laws import cod, pass_until
from orrery.laws.posterior import Link, Posterior
from orrery.strategies.base import Group, Sibling
from orrery.strategies.trials import Identity, identity

#: Smaller siblings that a forecast needs: one gives no slope.
LEAST_SIBLINGS = 2
#: Passes of the best sibling below which the task counts as one that small samples call 0.
_RARE_PASSES = 5
#: Above this chance a score is never a matter of rare passes.
_RARE_CHANCE = 0.02

Results = dict[str, list[tuple[TrialResult, NDArray[np.bool_]]]]  #: by sibling: per item results of each seed


def smaller(group: Group) -> list[Sibling]:
    """Siblings of known and smaller size, smallest first; none when the model's own size is unknown."""
    facts = group.facts or group.model.facts
    if facts is None:
        return []
    found = [s for s in group.siblings if s.facts is not None and s.facts.parameters < facts.parameters]
    return sorted(found, key=lambda s: (s.facts.parameters if s.facts else 0, s.model.name))


def forecasts(group: Group, *strategies: str) -> dict[Identity, tuple[float, float]]:
    """Link-scale mean and sd of every configuration of ``strategies`` that two smaller siblings were measured in.

    Only metrics that are right or wrong per item, and only configurations without training; empty where there are none.
    """
    siblings = smaller(group)
    if group.link is not Link.LOGIT or len({s.facts.parameters for s in siblings if s.facts}) < LEAST_SIBLINGS:
        return {}
    tables: dict[tuple[Identity, int], Results] = {}
    for sibling in siblings:
        for e in sibling.evidence:
            direct = e.trial.fidelity.method is Method.DIRECT and not e.trial.fidelity.training_examples
            if direct and (bits := _bits(e.result)) is not None:
                table = tables.setdefault((identity(e.trial), len(bits)), {})
                table.setdefault(sibling.model.name, []).append((e.result, bits))
    sizes = {s.model.name: float(s.facts.parameters) for s in siblings if s.facts}
    facts = group.facts or group.model.facts
    found: dict[Identity, tuple[float, float]] = {}
    for (asked, items), results in sorted(tables.items()):
        names = [n for n in sizes if n in results]
        if (
            facts is None
            or len({sizes[n] for n in names}) < LEAST_SIBLINGS
            or asked in found
            or asked[0] not in strategies
        ):
            continue
        own = _attempts(names, [results])
        # What not all of them answered would compare one sibling's good configurations with another's bad ones.
        every = _attempts(names, [t for (_, n), t in sorted(tables.items()) if n == items and set(names) <= set(t)])
        key = *own, *every, tuple(sizes[n] for n in names)
        found[asked] = _extrapolate(*key, items, float(facts.parameters), group.chance)
    return found


def _attempts(names: Sequence[str], tables: Sequence[Results]) -> tuple[bytes, bytes]:
    """Pass rates (items, names) over the tables' attempts and how many there were (names,), as a cache's key takes them."""
    passed = np.stack([np.sum([b for t in tables for _, b in t[n]], axis=0, dtype=np.float64) for n in names], axis=1)
    attempts = np.array([float(sum(len(t[n]) for t in tables)) for n in names])
    return (passed / attempts).tobytes(), attempts.tobytes()


@lru_cache(maxsize=256)
def _extrapolate(
    rates: bytes,
    attempts: bytes,
    all_rates: bytes,
    all_attempts: bytes,
    sizes: tuple[float, ...],
    items: int,
    size: float,
    chance: float,
) -> tuple[float, float]:
    """The law's forecast; a plan asks for the same one at every event."""
    rate, tries = np.frombuffer(rates).reshape(items, len(sizes)), np.frombuffer(attempts)
    rare = chance <= _RARE_CHANCE and (rate.mean(0) * items * tries).max() < _RARE_PASSES
    post = _of_items(rates, attempts, sizes, items, size, chance, rare)
    if all_attempts != attempts:
        every = np.frombuffer(all_rates).reshape(rate.shape), np.frombuffer(all_attempts)
        shared = _of_items(all_rates, all_attempts, sizes, items, size, chance, rare)
        post = cod.with_neighbours(post, shared, (rate, tries), every)
    return float(post.mean[0]), float(post.sd[0])


@lru_cache(maxsize=256)
def _of_items(
    rates: bytes, attempts: bytes, sizes: tuple[float, ...], items: int, size: float, chance: float, rare: bool
) -> Posterior:
    """COD's law, or the line of rare passes; over all attempts it is the same for every configuration."""
    rate, tries = np.frombuffer(rates).reshape(items, len(sizes)), np.frombuffer(attempts)
    if not rare:
        return cod.fit(rate, np.array(sizes), attempts=tries, chance=min(chance, 0.99)).predict([size])
    score, n = rate.mean(0), items * tries
    smooth = (score * n + 0.5) / (n + 1)
    return pass_until.fit(score, np.sqrt(smooth * (1 - smooth) / n), np.array(sizes)).predict([size])


def _bits(result: TrialResult) -> NDArray[np.bool_] | None:
    """Per-item right or wrong, as the report packs it; None where it was not reported."""
    if result.outcome is not Outcome.MEASURED or not result.bits or not result.items:
        return None
    packed = np.frombuffer(base64.b64decode(result.bits), dtype=np.uint8)
    return np.unpackbits(packed)[: result.items].astype(np.bool_)


def remark(group: Group) -> str:
    """What a person should know of a forecast that rests on siblings."""
    names = [s.model.name for s in smaller(group)]
    return (
        f"{group.model.name} was not measured: forecast from its smaller siblings {' and '.join(names)} by the items "
        "they got right"
    )
