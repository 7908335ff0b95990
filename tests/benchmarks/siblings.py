"""A large sibling from small ones in simulated families: ``python -m tests.benchmarks.siblings --json OUT``.

Families of 200 items by item response theory (I) or of six groups of items with exponents of their own (G); every sibling
answers each item once in each of 1 + J configurations, which differ in level (sd .4 on the logit scale, ``trend`` more for each
factor e of size) and by item (sd .3). The first configuration's score is forecast at 2 to 5 times the largest sibling:
``own`` by its own answers, ``one_law`` with all attempts and one law over all items, ``clusters`` with COD's clusters. Each
with mean |error| in points, share of the 90 % intervals that held, and their width.
"""

from __future__ import annotations

from statistics import fmean
from unittest import mock

import numpy as np

from orrery.laws import cod
from orrery.laws.posterior import Array, Posterior
from tests.benchmarks import harness

FAMILIES = 40
CASES = [(w, m, j, 0.0) for w in "IG" for m in (2, 3, 4) for j in (3, 10, 20)]
CASES += [(w, 3, 20, t) for w in "IG" for t in (-0.2, 0.2)]


def family(
    rng: np.random.Generator, world: str, siblings: int, more: int, trend: float
) -> tuple[Array, Array, float, float, float]:
    """Answers (items, siblings, 1 + more), relative sizes, the large one's size, chance, and its true score."""
    items, size = 200, np.sort(np.exp(rng.uniform(0, np.log(16), siblings)))
    size = size / size[0]
    large = float(size[-1] * rng.uniform(2, 5))
    log_size, chance = np.log(np.append(size, large)), float(rng.choice([0, 1 / 7, 0.25, 0.5]))
    if world == "I":
        difficulty, steep = rng.normal(0, rng.uniform(0.7, 2.0), items), rng.lognormal(0, 0.3, items)
        ability = rng.normal(-1, 0.7) + rng.uniform(0.2, 0.9) * log_size + rng.normal(0, 0.15, siblings + 1)
        z = steep[:, None] * (ability - difficulty[:, None])
    else:
        kind = rng.integers(0, 6, items)
        level = np.linspace(-1, 3, 6)[kind] + 0.2 * rng.standard_normal(items)
        eta = level[:, None] - (0.25 + 0.5 * rng.random(6))[kind][:, None] * log_size
        p = np.clip(np.exp(-np.exp(eta)), 1e-6, 1 - 1e-6)
        z = np.log(p / (1 - p))
    shift = np.append(0.0, rng.normal(0, 0.4, more)) + log_size[:, None] * np.append(0.0, np.full(more, trend))
    p = chance + (1 - chance) / (1 + np.exp(-(z[:, :, None] + shift + rng.normal(0, 0.3, (items, 1, more + 1)))))
    right = (rng.random(p.shape) < p)[:, :siblings].astype(np.float64)
    return right, size, large, chance, float(p[:, -1, 0].mean())


def forecasts(right: Array, size: Array, large: float, chance: float) -> dict[str, Posterior]:
    """The three of them."""
    own, every, attempts = right[:, :, 0], right.mean(2), right.shape[2]
    alone = cod.fit(own, size, chance=chance).predict([large])
    found = {"own": alone}
    one = cod.fit_end_to_end(every, size, attempts=attempts, chance=chance).predict([large])
    with mock.patch.object(cod, "LEAST_ATTEMPTS", 1):
        clusters = cod.fit(every, size, attempts=attempts, chance=chance).predict([large])
    for name, shared in (("one_law", one), ("clusters", clusters)):
        found[name] = cod.with_neighbours(alone, shared, (own, 1), (every, attempts))
    return found


def measure(seed: int) -> harness.Outcome:
    """All cases."""
    rows: list[harness.Row] = []
    for world, siblings, more, trend in CASES:
        told: dict[str, list[tuple[float, float, float]]] = {}
        for i in range(FAMILIES):
            right, size, large, chance, truth = family(
                np.random.default_rng([seed, i, siblings, more]), world, siblings, more, trend
            )
            for name, post in forecasts(right, size, large, chance).items():
                low, high = (float(v[0]) for v in post.interval(0.9))
                told.setdefault(name, []).append(
                    (100 * abs(float(post.median()[0]) - truth), low <= truth <= high, 100 * (high - low))
                )
        row: harness.Row = {"world": world, "siblings": siblings, "attempts": siblings * (more + 1), "trend": trend}
        for name, values in told.items():
            row |= {f"{name}.{k}": fmean(v[i] for v in values) for i, k in enumerate(("mae", "coverage90", "width"))}
        rows.append(row)
    summary = {k: fmean(r[k] for r in rows) for k in rows[0] if "." in k}
    return harness.Outcome(rows, summary, [("siblings", rows)])


def main() -> None:
    """See the module's docstring."""
    args = harness.arguments(__doc__, data=None)
    harness.run("siblings", args, lambda: measure(args.seed))


if __name__ == "__main__":
    main()
