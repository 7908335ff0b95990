import numpy as np
import pytest

from orrery.laws.curve_laws import BUILTIN, curve_law
from orrery.laws.posterior import Link
from orrery.laws.reach import shipped_reach

pytestmark = pytest.mark.unit
SIZES = 200.0 * 2.0 ** np.arange(6)


@pytest.mark.parametrize("name", BUILTIN)
@pytest.mark.parametrize("link", [Link.LOG, Link.LOGIT])
@pytest.mark.parametrize("measured", [0, 1, 2, 6])
def test_every_law_forecasts_any_number_of_sizes(name: str, link: Link, measured: int) -> None:
    z = (-0.06 if link is Link.LOG else 0.2) * np.arange(6.0) + np.array([[1.0], [0.8], [1.2]])
    scores = link.inverse(z)[:, :measured]
    scores[2] = np.nan
    p = curve_law(name)(
        SIZES[:measured], scores, np.array([2e4, 2e5]), link=link, noise_sd=np.full(scores.shape, 0.01), chance=0.0
    )
    assert p.mean.shape == (3, 2) and (p.sd > 0).all()
    if measured == 6:
        assert p.sd[2].min() > p.sd[0].max()
        better = p.mean[0, 1] < p.mean[0, 0] if link is Link.LOG else p.mean[0, 1] > p.mean[0, 0]
        assert better


def test_an_unknown_law_names_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"'Linear'; write one of: AcceptThenStop, LastTwoPoints, NTKRectified, Pooled"
    ):
        curve_law("Linear")


@pytest.mark.parametrize(
    ("link", "task", "spelled"), [(Link.LOG, "flan", "FLAN"), (Link.LOGIT, "implicatures", "bigbench/implicatures")]
)
def test_a_task_that_the_reach_was_learned_from_gets_the_number_without_it(link: Link, task: str, spelled: str) -> None:
    known, without = shipped_reach(link), shipped_reach(link, task=spelled)
    assert without == shipped_reach(link, task=task) != known
    scores = np.array([[0.5, 0.55, 0.6]]) if link is Link.LOGIT else np.array([[3.0, 2.8, 2.6]])
    sds = [
        curve_law("RectifiedLaw", task=t)(
            SIZES[:3], scores, [1e6], link=link, noise_sd=np.full((1, 3), 0.05), chance=0.0
        ).sd[0, 0]
        for t in (None, spelled)
    ]
    assert sds[0] != sds[1]
