"""A large sibling that is never loaded: forecast from the items that smaller ones got right, in families of known truth."""

from __future__ import annotations

import base64
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from orrery.api.probe import ProbeSpec, Trial, TrialResult
from orrery.laws import cod
from orrery.planning.candidates import expand
from orrery.planning.evidence import Known
from orrery.planning.forecasts import Groups
from orrery.strategies import family, registry
from orrery.strategies.base import Evidence, Group
from tests.unit.planning.world import World, drive, make_plan, make_prices, model
from tests.unit.strategies.test_forecasts import shots, zero

pytestmark = pytest.mark.unit

SIZES = {"s": 135_000_000, "m": 360_000_000, "l": 1_700_000_000, "xl": 3_000_000_000}
CHANCE = 1 / 7


def with_bits(e: Evidence, right: np.ndarray) -> Evidence:
    n = len(right)
    bits = base64.b64encode(np.packbits(right.astype(bool)).tobytes()).decode()
    score = Decimal(int(right.sum())) / Decimal(n)
    return replace(e, result=e.result.model_copy(update={"score": score, "items": n, "bits": bits}))


class Family:
    """Item response theory: items of two parameters, ability linear in log size but for each model's own luck."""

    def __init__(self, seed: int, items: int = 200) -> None:
        rng = np.random.default_rng(seed)
        size = np.log(np.array([*SIZES.values()]) / SIZES["s"])
        ability = rng.normal(-1, 0.7) + rng.uniform(0.2, 0.9) * size + rng.normal(0, 0.15, 4)
        difficulty, steep = rng.normal(0, rng.uniform(0.7, 2.0), items), rng.lognormal(0, 0.3, items)
        p = CHANCE + (1 - CHANCE) / (1 + np.exp(-steep[:, None] * (ability - difficulty[:, None])))
        self.truth = dict(zip(SIZES, p.mean(0), strict=True))
        self.rates = p
        right = rng.random(p.shape) < p
        self.evidence = {n: [with_bits(zero(0), right[:, i])] for i, n in enumerate(SIZES) if n != "xl"}


def group(kind: str, evidence: dict[str, list[Evidence]], of: str = "xl", families: str = "ffff", **grid: Any) -> Group:
    models = [model(n, parameters=p) | {"family": f} for (n, p), f in zip(SIZES.items(), families, strict=True)]
    axes = [{"name": k, "values": v} for k, v in grid.items()]
    plan = make_plan(models=models, strategies=[{"name": "s", "type": kind, "grid": axes}])
    known = Known(task_facts=World(items=200).task_facts, evidence=evidence)
    known.model_facts.update({m.name: m.facts for m in plan.spec.models if m.facts is not None})
    return Groups(plan.spec, expand(plan.spec), known).build(list(SIZES).index(of))


def forecast(g: Group, kind: str = "ZeroShot") -> Any:
    return registry.get(kind).forecast(g)


def test_the_large_one_is_forecast_close_and_its_interval_holds() -> None:
    prior = float(forecast(group("ZeroShot", {})).posterior.median()[0])
    errors, blind, held = [], [], []
    for seed in range(30):
        f = Family(seed)
        post = forecast(group("ZeroShot", f.evidence)).posterior
        low, high = (float(v[0]) for v in post.interval(0.9))
        truth = f.truth["xl"]
        errors.append(abs(float(post.median()[0]) - truth))
        blind.append(abs(prior - truth))
        held.append(low <= truth <= high)
    assert np.mean(errors) < 0.06 and np.mean(errors) < 0.4 * np.mean(blind)
    assert sum(held) >= 24, "of 30 intervals at 90 %, 24 or more hold with probability .97"


def test_it_is_said_and_nothing_is_called_measured() -> None:
    f = forecast(group("ZeroShot", Family(1).evidence))
    assert not f.measured.any()
    assert list(f.remarks) == [
        "xl was not measured: forecast from its smaller siblings s and m and l by the items they got right"
    ]


@pytest.mark.parametrize(
    ("families", "of", "leave_out", "told"),
    [
        ("ffff", "xl", (), True),
        ("ffff", "xl", ("l",), True),
        ("ffff", "xl", ("m", "l"), False),  # one sibling gives no slope
        ("ffgf", "xl", ("m",), False),  # another family
        ("ffff", "s", ("s",), False),  # only larger ones
    ],
)
def test_two_smaller_siblings_of_the_family_are_needed(
    families: str, of: str, leave_out: tuple[str, ...], told: bool
) -> None:
    evidence = {n: e for n, e in Family(2).evidence.items() if n not in leave_out}
    known = forecast(group("ZeroShot", evidence, of, families)).posterior
    nothing = forecast(group("ZeroShot", {}, of, families)).posterior
    assert bool(known.sd[0] < 0.9 * nothing.sd[0]) is told
    assert told or known.mean[0] == pytest.approx(nothing.mean[0])


def test_results_without_items_or_on_other_items_are_left_alone() -> None:
    bare = {n: [zero(0.4 + 0.1 * i)] for i, n in enumerate(("s", "m", "l"))}
    assert family.forecasts(group("ZeroShot", bare), "ZeroShot") == {}
    mixed = dict(Family(3).evidence)
    mixed["m"], mixed["l"] = Family(3, items=150).evidence["m"], Family(3, items=100).evidence["l"]
    assert family.forecasts(group("ZeroShot", mixed), "ZeroShot") == {}


def test_its_own_measurement_counts_more_than_its_siblings() -> None:
    evidence = Family(4).evidence | {"xl": [zero(0.35)]}
    f = forecast(group("ZeroShot", evidence))
    assert f.measured.all() and not f.remarks
    assert float(f.posterior.median()[0]) == pytest.approx(0.35, abs=0.02)


def test_demonstrations_are_forecast_by_the_siblings_demonstrations() -> None:
    f, g = Family(5), Family(6)
    both = {n: [*f.evidence[n], replace(shots(4, 0), result=g.evidence[n][0].result)] for n in f.evidence}
    grid: dict[str, Any] = {"shots": [4], "retriever": ["random"]}
    told = forecast(group("InContext", both, **grid), "InContext")
    start = forecast(group("InContext", f.evidence, **grid), "InContext")
    assert told.posterior.sd[0] < start.posterior.sd[0]
    assert abs(float(told.posterior.median()[0]) - g.truth["xl"]) < 0.2
    assert not told.measured.any() and "smaller siblings" in told.remarks[0]


def test_fine_tuning_starts_where_the_siblings_say() -> None:
    low, high = (
        {n: [with_bits(zero(0), np.arange(200) < 200 * (q + 0.1 * i))] for i, n in enumerate(("s", "m", "l"))}
        for q in (0.1, 0.6)
    )
    medians = [float(forecast(group("LoRA", e), "LoRA").posterior.median()[0]) for e in (low, high)]
    assert medians[1] > medians[0] + 0.05


def test_a_task_that_small_samples_call_zero_is_not_never() -> None:
    """PassUntil's resolution: 0, 1 and 3 of 200 right, in a task of free text, grow by a law; 0, 0 and 0 stay open."""
    rare = {n: [with_bits(zero(0), np.arange(200) < k)] for n, k in (("s", 0), ("m", 1), ("l", 3))}
    never = {n: [with_bits(zero(0), np.zeros(200))] for n in ("s", "m", "l")}
    found = []
    for evidence in (rare, never):
        g = replace(group("ZeroShot", evidence), chance=0.0)
        ((mean, sd),) = family.forecasts(g, "ZeroShot").values()
        found.append((mean, sd))
        low, high = (1 / (1 + np.exp(-(mean + z * sd))) for z in (-1.645, 1.645))
        assert 0 < low < 0.02 < high, "at three billion parameters it may have begun to solve some, or not"
    assert found[0][0] > found[1][0]


def test_rare_passes_are_resolved_by_all_configurations_together() -> None:
    """One configuration of 200 items cannot tell 1 in 1,000 from never; twenty together can."""
    rng, more = np.random.default_rng(0), 20
    rates = {"s": 0.0005, "m": 0.001, "l": 0.004}
    many = {
        n: [
            with_bits(zero(0), rng.random(200) < p),
            *(replace(shots(k, 0), result=with_bits(zero(0), rng.random(200) < p).result) for k in range(1, more)),
        ]
        for n, p in rates.items()
    }
    sds = []
    for evidence in (many, {n: e[:1] for n, e in many.items()}):
        g = replace(group("ZeroShot", evidence), chance=0.0)
        ((mean, sd),) = family.forecasts(g, "ZeroShot").values()
        sds.append(sd)
        assert abs(mean - np.log(0.006 / 0.994)) < 2 * sd, "the large one's .006 or so"
    assert sds[0] < 0.8 * sds[1]


class BitsWorld(World):
    """Zero-shot scores that grow with the model, reported item by item."""

    def quality(self, name: str, trial: Trial) -> float:
        return {"s": 0.45, "m": 0.55, "xl": 0.75}[name]

    def measure(self, spec: ProbeSpec, trial: Trial) -> TrialResult:
        result = super().measure(spec, trial)
        right = np.arange(result.items) < round(float(result.score or 0) * result.items)
        return result.model_copy(update={"bits": base64.b64encode(np.packbits(right).tobytes()).decode()})


def test_a_plan_recommends_a_large_sibling_that_was_never_loaded() -> None:
    """It is 22 times the smallest: probing it would cost nearly the whole search, and the answer does not need it."""
    models = [model(n, parameters=SIZES[n]) | {"family": "f"} for n in ("s", "m", "xl")]
    strategies = [{"name": "zero-shot", "type": "ZeroShot"}]
    plan = make_plan(models=models, strategies=strategies, objective={"goal": "MaximizeQuality"})
    run = drive(plan, make_prices(), BitsWorld())
    assert {r.spec.model.name for r in run.records} == {"s", "m"}
    answer = run.last.status.recommendation
    assert answer is not None and answer.model == "xl" and not answer.measured
    assert "xl was not measured: forecast from its smaller siblings s and m" in (answer.message or "")


@settings(max_examples=25, deadline=None)
@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 40), st.just(3))), st.sampled_from([0.0, CHANCE, 0.5]))
def test_any_items_give_a_forecast_that_is_not_sure(right: np.ndarray, chance: float) -> None:
    evidence = {n: [with_bits(zero(0), right[:, i])] for i, n in enumerate(("s", "m", "l"))}
    g = replace(group("ZeroShot", evidence), chance=chance)
    ((mean, sd),) = family.forecasts(g, "ZeroShot").values()
    assert np.isfinite(mean) and 0.1 < sd < 20
    assert np.isfinite(forecast(g).posterior.mean).all()


def configurations(f: Family, count: int, seed: int) -> tuple[dict[str, list[Evidence]], dict[str, Any]]:
    """Each sibling's zero-shot score and ``count`` in-context ones on the same items, of items' own difficulty."""
    rng = np.random.default_rng(seed)
    shift = np.r_[0.0, rng.normal(0, 0.3, count)]
    grid: dict[str, Any] = {"shots": list(range(1, count + 1)), "retriever": ["random"]}
    found: dict[str, list[Evidence]] = {}
    for i, name in enumerate(n for n in SIZES if n != "xl"):
        z = np.log(f.rates[:, i] / (1 - f.rates[:, i]))
        p = 1 / (1 + np.exp(-(z[:, None] + shift)))
        right = rng.random(p.shape) < p
        found[name] = [with_bits(zero(0), right[:, 0])]
        found[name] += [
            replace(shots(k, 0), result=with_bits(zero(0), right[:, k]).result) for k in range(1, count + 1)
        ]
    return found, grid


def test_other_configurations_are_attempts_at_the_same_items_and_cluster_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three siblings with fifteen configurations each: COD's clusters run in a plan's forecasts, and these are closer."""
    clustered: list[int] = []
    real = cod._mean_shift.cluster_until_stable
    monkeypatch.setattr(cod._mean_shift, "cluster_until_stable", lambda x: clustered.append(len(x)) or real(x))
    errors: dict[bool, list[float]] = {True: [], False: []}
    held, width = {True: 0, False: 0}, {True: 0.0, False: 0.0}
    for seed in range(16):
        f = Family(seed)
        evidence, grid = configurations(f, 15, seed)
        for many in (True, False):
            told = evidence if many else {n: e[:1] for n, e in evidence.items()}
            before = len(clustered)
            (mean, sd), *_ = family.forecasts(group("ZeroShot", told), "ZeroShot").values()
            assert (len(clustered) > before) is many
            off = abs(mean - np.log(f.truth["xl"] / (1 - f.truth["xl"])))
            errors[many].append(off)
            held[many] += off < 1.645 * sd
            width[many] += sd
    assert np.mean(errors[True]) < np.mean(errors[False]) and width[True] < 0.95 * width[False]
    assert held[True] >= held[False] - 1
    in_context = forecast(group("InContext", evidence, **grid), "InContext")
    assert in_context.posterior.sd.max() < forecast(group("InContext", {}, **grid), "InContext").posterior.sd.min()


def test_what_not_every_sibling_answered_is_no_neighbour() -> None:
    f = Family(3)
    evidence, _ = configurations(f, 15, 3)
    one = {n: e if n == "l" else e[:1] for n, e in evidence.items()}
    assert family.forecasts(group("ZeroShot", one), "ZeroShot") == family.forecasts(
        group("ZeroShot", {n: e[:1] for n, e in evidence.items()}), "ZeroShot"
    )
