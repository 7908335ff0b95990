import argparse
import csv
import json
from pathlib import Path

import numpy as np
import pytest

from orrery.laws import rectified as law
from orrery.laws.posterior import Link
from tests.benchmarks import early_pick, harness, rectified, speed, tables
from tests.benchmarks.curves import read_tasks

pytestmark = pytest.mark.unit


def write_task(path: Path, models: int, seed: int) -> None:
    """A planted task in the columns of the release."""
    rng = np.random.default_rng(seed)
    sizes = 200 * 2 ** np.arange(14)
    theta = np.column_stack([rng.normal(m, s, models) for m, s in ((1.1, 0.2), (-1.2, 0.2), (9, 0.8), (-1.4, 0.05))])
    losses = np.exp(law.curve(theta, sizes, Link.LOG) + rng.normal(0, 0.003, (models, 14)))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["config name", "0", *sizes, "size", "family"])
        for i, row in enumerate(losses):
            writer.writerow([f"model {i}", row[0] * 1.5, *row, 10**8 * (i + 1), f"family {i % 3}"])


def test_result_is_the_common_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"cell": "a", "value": np.float64(1.5), "none": np.nan, "n": np.int64(3)}]
    args = argparse.Namespace(json=tmp_path / "new" / "out.json", seed=7)
    harness.run("example", args, lambda: harness.Outcome(rows, {"value": np.float64(1.5)}, [("cells", rows)]))
    found = json.loads((tmp_path / "new" / "out.json").read_text())
    assert set(found) == {"command", "commit", "machine", "seeds", "rows", "summary"}
    assert found["rows"] == [{"cell": "a", "value": 1.5, "none": None, "n": 3}]
    assert found["summary"] == {"value": 1.5} and found["seeds"] == [7]
    assert found["command"].startswith("python -m tests.benchmarks.example")
    assert "cells" in capsys.readouterr().out


def test_a_kept_table_is_read_as_it_was_written_and_is_replaced_whole(tmp_path: Path) -> None:
    kept = tmp_path / "new" / "kept.csv"
    for rows in ([("a,b", 1, "0.50000"), ("c", 2, "")], [("d", 3, "1.00000")]):
        tables.replace_csv(kept, "python -m made", ("task", "shots", "score"), rows)
        columns, found = tables.read_csv(kept)
        assert columns == ["task", "shots", "score"]
        assert [(r["task"], int(r["shots"]), r["score"]) for r in found] == rows
        assert kept.read_text().splitlines()[0] == "# python -m made" and list(kept.parent.iterdir()) == [kept]


def test_rectified_scores_ours_and_every_baseline(tmp_path: Path) -> None:
    write_task(tmp_path / "planted.csv", 6, 0)
    (task,) = read_tasks(tmp_path)
    rows = rectified.cell(task, 64, seed=0)
    summary = rectified.summarise(rows)
    assert {r["method"] for r in rows} == {"orrery", *rectified.BASELINES}
    assert {"pearcorr", "relacc", "abs_ln_error", "coverage90", "planted.pearcorr", "ats.planted.pearcorr"} <= set(
        summary
    )
    assert summary["abs_ln_error"] < summary["sub_tuning.abs_ln_error"]
    assert all(np.isfinite(v) for v in summary.values())


def test_rectified_sees_nothing_beyond_the_budget(tmp_path: Path) -> None:
    write_task(tmp_path / "planted.csv", 6, 0)
    (task,) = read_tasks(tmp_path)
    before, preferred = rectified.ours(rectified.seen(task, 64, 0))
    task.losses[:, 9:] *= np.linspace(0.5, 2, 6)[:, None]
    after, again = rectified.ours(rectified.seen(task, 64, 0))
    assert np.array_equal(after.mean, before.mean) and np.array_equal(again, preferred)


def test_metrics_by_hand() -> None:
    truth = np.array([1.0, 2.0, 3.0])
    assert rectified.pearson(np.array([2.0, 4.0, 6.0]), truth) == pytest.approx(100)
    assert rectified.pearson(np.ones(3), truth) == 0
    assert rectified.relative_accuracy(np.array([2.0, 1.0, 3.0]), truth) == pytest.approx(50)


def test_early_pick_pays_for_what_it_sees_and_keeps_to_its_budget() -> None:
    rng = np.random.default_rng(0)
    final = rng.normal(0.7, 0.05, 20)
    loss = final[:, None] + 0.5 * np.exp(-np.arange(1, 21)) + rng.normal(0, 0.002, (20, 20))
    seconds = np.repeat(rng.uniform(30, 40, (20, 1)), 20, axis=1)
    share = np.tile(np.arange(1, 21) / 20, (20, 1))
    pool = early_pick.Pool(
        [str(i) for i in range(20)],
        0,
        1 - final,
        np.full(20, 1e6),
        loss,
        1 - loss,
        seconds,
        seconds.cumsum(axis=1),
        share,
    )
    for name, policy in early_pick.POLICIES.items():
        score, reached = policy(pool, 0)
        later = np.arange(20) >= reached[:, None]
        hidden = early_pick.Pool(
            pool.names, 0, pool.accuracy, pool.parameters, np.where(later, 9.0, loss), np.where(later, 0.0, 1 - loss), seconds,
            seconds.cumsum(axis=1), share,
        )  # fmt: skip
        assert np.array_equal(policy(hidden, 0)[0], score), f"{name} looked at what it did not pay for"
    found = early_pick.scores(pool, early_pick.ours, 0)
    assert 0.05 < found["cost_share"] <= 0.08 and found["spearman"] > 0.8


def test_speed_measures_both_sides() -> None:
    found = speed.measure(None, 50, 0)
    assert {r["fit"] for r in found.rows} == {"pooled", "rectified", "power", "ats"}
    assert found.summary["ratio"] > 0 and found.summary["scipy.rectified.per_second"] > 0
