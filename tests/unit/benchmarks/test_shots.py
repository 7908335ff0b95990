"""The shots benchmark: curves that do what the law says, and files as people write them."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import shots
from tests.benchmarks.tables import InputError

pytestmark = pytest.mark.unit

GRID = np.array([0.0, 1, 2, 4, 8, 16, 32])


def test_curves_that_saturate_are_forecast_better_than_by_any_baseline() -> None:
    rng = np.random.default_rng(0)
    level, gain, speed = rng.normal(-0.6, 0.6, 5), rng.normal(1.5, 0.6, 5), np.exp(rng.normal(-1.5, 0.5, 5))
    task = np.repeat(np.arange(5), 4)
    dip = 0.5 * (rng.random((20, 1)) < 0.3) * (GRID == 1)
    z = level[task, None] + gain[task, None] * (1 - np.exp(-speed[task, None] * GRID)) - dip
    z += 0.2 * rng.standard_normal(z.shape) * (GRID > 0)
    scores = rng.binomial(120, 1 / (1 + np.exp(-z))) / 120
    names, seeds = [f"task {t}" for t in task], [str(i % 4) for i in range(20)]
    table = shots.Table(names, ["model"] * 20, seeds, GRID, scores, np.full_like(scores, 120.0), np.full(20, 0.25))
    found = shots.summarise(shots.evaluate(table))
    assert found["mae"] < 0.9 * min(found[f"{name}.mae"] for name in ("two_point", "least_squares", "last", "mean"))
    assert found["k8.mae"] < found["k8.two_point.mae"]
    assert found["coverage90"] > 0.8 and found["k8.coverage90"] > 0.8


Rows = list[dict[str, object]]


def planted(tasks: list[str], grid: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 32)) -> Rows:
    """Flat curves around a level of each task, two seeds each."""
    rng = np.random.default_rng(0)
    return [
        {"task": t, "model": "m", "seed": s, "shots": k, "score": rng.binomial(100, 0.4 + 0.1 * i) / 100, "items": 100}
        for i, t in enumerate(tasks)
        for s in (0, 1)
        for k in grid
    ]


def write(folder: Path, rows: Rows, name: str = "a.csv") -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / name).open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def summary_of(folder: Path) -> dict[str, float]:
    found = dict(shots.measure(shots.read(folder)).summary)
    assert all(np.isfinite(v) for v in found.values())
    return found


@pytest.mark.parametrize(
    ("column", "cell"),
    [("score", ""), ("score", "nan"), ("score", "1.7"), ("items", "0"), ("shots", "few"), ("shots", "-1")],
)
def test_a_row_that_says_nothing_is_left_out_and_counted(
    tmp_path: Path, column: str, cell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = planted(["one", "two"])
    rows.insert(3, rows[3] | {column: cell})  # beside a repeat that says something
    whole, spoilt = shots.read(write(tmp_path / "a", planted(["one", "two"]))), shots.read(write(tmp_path / "b", rows))
    assert np.array_equal(whole.score, spoilt.score) and np.array_equal(whole.items, spoilt.items)
    assert "1 of 29 rows left out" in capsys.readouterr().err


def test_items_that_are_not_written_are_those_of_the_other_rows(tmp_path: Path) -> None:
    rows = planted(["one", "two"])
    table = shots.read(write(tmp_path, [rows[0] | {"items": ""}, *rows[1:]]))
    assert (table.items == 100).all()


def test_percent_is_read_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = planted(["one"])
    percent = [r | {"score": 100 * float(str(r["score"]))} for r in rows]
    found = shots.read(write(tmp_path / "p", percent))
    assert found.score == pytest.approx(shots.read(write(tmp_path / "s", rows)).score)
    assert "taken as percent" in capsys.readouterr().err


def test_repeats_are_averaged_over_their_items(tmp_path: Path) -> None:
    rows = [
        {"task": "t", "model": "m", "seed": 0, "shots": 0, "score": s, "items": n} for s, n in ((0.5, 100), (0.8, 50))
    ]
    table = shots.read(write(tmp_path, rows))
    assert table.score[0, 0] == pytest.approx(0.6) and table.items[0, 0] == 150


def test_chance_is_said_by_the_file_or_the_catalogue_or_the_points(tmp_path: Path) -> None:
    rows = planted(["bigbench/Intent_Recognition", "social_iqa", "said", "guess"])
    table = shots.read(write(tmp_path, [r | {"chance": 0.2 if r["task"] == "said" else ""} for r in rows]))
    chance = dict(zip(table.task, shots.with_chance(table, 2).chance, strict=True))
    assert chance["bigbench/Intent_Recognition"] == pytest.approx(1 / 7)
    assert chance["social_iqa"] == pytest.approx(1 / 3, abs=1e-4) and chance["said"] == 0.2
    early = table.score[[t == "guess" for t in table.task]][:, :3]
    assert chance["guess"] == shots.estimated_chance(early) == 0.5
    assert shots.estimated_chance(np.array([[0.35, np.nan, 0.36]])) == pytest.approx(1 / 3)
    assert shots.estimated_chance(np.array([[0.01, 0.02]])) == pytest.approx(0.1)


def test_one_task_alone_is_forecast_by_the_prior_for_random_demonstrations() -> None:
    own = shots.measured()
    found = shots.summarise(shots.evaluate(own.rows(np.array([t == "implicatures" for t in own.task]))))
    assert found["mae"] < 0.5 * found["default_prior.mae"]


def test_scores_of_0_and_1_lie_in_an_interval_of_whole_items() -> None:
    n = 3
    table = shots.Table([f"t{i}" for i in range(n)], ["m"] * n, ["0"] * n, GRID, np.repeat([[1.0], [1.0], [0.0]], 7, 1),
                        np.full((n, 7), 100.0), np.full(n, 0.25))  # fmt: skip
    rows = shots.evaluate(table)
    assert all(r["lower"] <= r["score"] <= r["upper"] for r in rows if r["known"] == 8)
    for r in rows:
        assert r["lower"] * 100 == pytest.approx(round(r["lower"] * 100))
        assert r["upper"] * 100 == pytest.approx(round(r["upper"] * 100))


def test_nothing_to_score_is_refused_with_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"

    def run(folder: Path) -> int | str | None:
        monkeypatch.setattr(sys, "argv", ["shots", "--data", str(folder), "--json", str(out), "--seed", "3"])
        try:
            shots.main()
        except SystemExit as end:
            return end.code
        return 0

    assert run(write(tmp_path / "late", planted(["a"], (0, 1, 2, 4)))) == 2
    assert "at 16 shots or more" in capsys.readouterr().err and not out.exists()
    assert run(write(tmp_path / "other", [{"size": 1}])) == 2 and "no column 'task'" in capsys.readouterr().err
    assert run(write(tmp_path / "late", planted(["b"], (2, 32)), "b.csv")) == 0
    found = json.loads(out.read_text())
    assert set(found) == {"command", "commit", "machine", "seeds", "rows", "summary"} and found["seeds"] == [3]
    assert found["command"].endswith("--seed 3") and found["summary"]["points"] == 2


def test_curves_that_begin_late_are_forecast_from_what_there_is_and_the_rest_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, planted(["a", "b"], (4, 8, 16, 64)))
    found = shots.measure(shots.read(tmp_path)).summary
    assert "mae" not in found and 0 <= found["k8.mae"] < 0.5
    assert "at 2 shots or fewer" in capsys.readouterr().err


def test_columns_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column 'score'"):
        shots.read(write(tmp_path, [{"task": "a", "shots": 1}]))


def test_a_file_that_is_no_text_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, planted(["one"]))
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe1")
    assert set(shots.read(tmp_path).task) == {"one"} and "b.csv cannot be read" in capsys.readouterr().err
