import numpy as np
import pytest
from scipy.stats import spearmanr

from orrery.laws import early

pytestmark = pytest.mark.unit


def pool(count: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses (count, 6), trained parameters and final losses of runs with a speed of their own; few parameters stall."""
    rng = np.random.default_rng(seed)
    parameters = 10 ** rng.uniform(5, 7, count)
    final = 0.75 - 0.03 * np.log10(parameters / 1e6) + rng.normal(0, 0.03, count)
    speed = rng.uniform(0.9, 1.6, count)
    losses = final[:, None] + 0.6 * np.exp(-speed[:, None] * np.arange(1, 7)) + rng.normal(0, 0.002, (count, 6))
    return losses, parameters, final


def spend(losses: np.ndarray, budget: float, parameters: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    cost, reached = np.ones(len(losses)), np.ones(len(losses), dtype=int)
    budget -= len(losses)
    while True:
        seen = np.where(np.arange(losses.shape[1]) < reached[:, None], losses, np.nan)
        on = early.go_on(seen, cost, budget, parameters=parameters)
        if not len(on):
            return reached, early.forecast(seen, parameters=parameters).mean
        reached[on] += 1
        budget -= len(on)


def test_never_overspends_and_fills_breadth_first_with_the_best() -> None:
    losses, _, _ = pool()
    for budget in (30, 31, 48, 60, 75, 180, 500):
        reached, _ = spend(losses, budget)
        assert reached.sum() <= budget and reached.sum() == min(budget, 180)
        assert reached.max() - reached.min() <= 1
    reached, _ = spend(losses, 48)
    assert losses[reached == 2, 0].max() <= losses[reached == 1, 0].min()


def test_more_money_ranks_better_and_parameters_help_those_who_stopped() -> None:
    rank, informed = [], []
    for seed in range(10):
        losses, parameters, final = pool(seed=seed)
        rank.append([spearmanr(spend(losses, b)[1], final)[0] for b in (30, 48, 90)])
        informed.append(spearmanr(spend(losses, 48, parameters)[1], final)[0])
    means = np.mean(rank, axis=0)
    assert means[0] < means[1] < means[2] and means[2] > 0.9
    assert np.mean(informed) > means[1]


def test_intervals_hold_the_next_loss_of_those_who_stopped() -> None:
    covered, width = [], []
    for seed in range(20):
        losses, parameters, _ = pool(seed=seed)
        reached, _ = spend(losses, 48, parameters)
        stopped = reached == 1
        seen = np.where(np.arange(2) < reached[:, None], losses[:, :2], np.nan)
        p = early.forecast(seen, parameters=parameters)
        low, high = p.interval(0.9)
        covered += list((low <= losses[:, 1])[stopped] & (losses[:, 1] <= high)[stopped])
        width += list(p.sd[stopped] / p.sd[~stopped].mean())
    assert np.mean(covered) > 0.85 and np.mean(width) > 1.5


@pytest.mark.parametrize("losses", [[[1.0]], [[1.0, 0.9]], [[2.0], [1.0]], [[1.0, 0.8], [1.0, np.nan]]])
def test_the_smallest_pools(losses: list[list[float]]) -> None:
    p = early.forecast(losses)
    assert np.isfinite(p.mean).all() and (p.sd > 0).all()
    assert len(early.go_on(losses, np.ones(len(losses)), 0.0)) == 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: early.forecast([[np.nan, 1.0]]), "first checkpoint"),
        (lambda: early.forecast([[1.0, np.nan, 0.8]]), "gap"),
        (lambda: early.forecast([[0.0]]), "a loss must be > 0"),
        (lambda: early.forecast([[1.0], [1.1]], parameters=[1e6, 0.0]), "one positive number a run, 2"),
        (lambda: early.go_on([[1.0], [1.1]], [1.0], 5.0), "one positive number a run, 2"),
    ],
)
def test_bad_input_is_a_sentence(call: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()  # type: ignore[operator]


def test_two_runs_that_went_on_do_not_say_what_parameters_are_worth() -> None:
    first = np.linspace(1.0, 1.6, 12)
    parameters = 10.0 ** np.tile([5.0, 7.0], 6)
    second = np.full(12, np.nan)
    second[:2] = first[:2] - [0.30, 0.34]  # the larger one fell a little more
    found = early.forecast(np.stack([first, second], axis=1), parameters=parameters).mean
    assert (np.diff(found[2:]) > 0).all(), "those who stopped keep their order"
