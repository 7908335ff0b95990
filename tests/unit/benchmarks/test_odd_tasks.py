"""Tasks of loss curves as they come: holes, byte order marks, few sizes, few models, files that are no task."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from orrery.laws import rectified as law
from orrery.laws.posterior import Link
from tests.benchmarks import rectified, speed
from tests.benchmarks.curves import read_task, read_tasks
from tests.benchmarks.tables import InputError

pytestmark = pytest.mark.unit

SIZES = 200 * 2 ** np.arange(14)


def planted(models: int, sizes: NDArray[np.int64] = SIZES, seed: int = 0) -> list[list[str]]:
    """Header and rows of a task that follows the law."""
    rng = np.random.default_rng(seed)
    theta = np.column_stack([rng.normal(m, s, models) for m, s in ((1.1, 0.2), (-1.2, 0.2), (9, 0.8), (-1.4, 0.05))])
    losses = np.exp(law.curve(theta, sizes.astype(float), Link.LOG) + rng.normal(0, 0.003, (models, len(sizes))))
    rows = [
        [f"model {i}", repr(1.5 * float(y[0])), *map(repr, y.tolist()), str(10**8 * (i + 1)), f"family {i % 3}"]
        for i, y in enumerate(losses)
    ]
    return [["config name", "0", *map(str, sizes), "size", "family"], *rows]


def write(path: Path, table: list[list[str]], *, mark: str = "") -> Path:
    path.write_text(mark + "\n".join(",".join(row) for row in table) + "\n", encoding="utf-8")
    return path


def without(table: list[list[str]], column: str) -> list[list[str]]:
    place = table[0].index(column)
    return [row[:place] + row[place + 1 :] for row in table]


def summary_of(folder: Path) -> dict[str, float]:
    return dict(rectified.measure(read_tasks(folder), 0).summary)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rectified, "_BOOTSTRAP", 50)
    monkeypatch.setattr(rectified, "_SUBPOOLS", 5)
    monkeypatch.setattr(rectified, "BUDGETS", (64,))


def test_holes_cost_a_curve_a_point_and_the_cell_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = planted(6)
    column = table[0].index
    table[1][column("0")] = ""
    table[2][column("400")] = "nan"
    table[3][column("25600")] = "inf"
    for size in SIZES[:8]:
        table[4][column(str(size))] = ""
    table[5][column("size")] = ""
    table[6][column("1638400")] = "nan"
    write(tmp_path / "holes.csv", table)
    (task,) = read_tasks(tmp_path)
    assert task.losses.shape == (5, 14) and np.isnan(task.losses).sum() == 10
    assert "1 of 6 models without a loss at 1,638,400 left out" in capsys.readouterr().err
    found = rectified.summarise(rectified.cell(task, 64, 0))
    for name in ("", *(f"{baseline}." for baseline in rectified.BASELINES)):
        assert np.isfinite(found[f"{name}pearcorr"]) and np.isfinite(found[f"{name}relacc"]), name
    assert 0 <= found["coverage90"] <= 1 and found["abs_ln_error"] < 0.3


def test_sub_tuning_takes_the_last_loss_seen_and_missing_zero_shot_ranks_last(tmp_path: Path) -> None:
    table = planted(4)
    table[1][table[0].index("25600")] = ""
    table[2][table[0].index("0")] = ""
    task = read_task(write(tmp_path / "t.csv", table))
    assert rectified.last_seen(rectified.seen(task, 64, 0))[0] == task.losses[0, 6]
    zero = next(r for r in rectified.cell(task, 64, 0) if r["method"] == "zero_shot")
    worst = np.where(np.isnan(task.zero_shot), np.nanmax(task.zero_shot), task.zero_shot)
    assert zero["pearcorr"] == pytest.approx(float(rectified.pearson(worst, task.losses[:, -1])))


@pytest.mark.parametrize("column", ["0", "size", "family", "config name"])
def test_a_column_that_only_some_need_may_be_absent(tmp_path: Path, column: str) -> None:
    write(tmp_path / "t.csv", without(planted(4), column), mark="\ufeff")
    found = summary_of(tmp_path)
    assert np.isfinite(found["pearcorr"]) and all(np.isfinite(v) for v in found.values())
    assert ("zero_shot.pearcorr" in found) == (column != "0")
    assert ("size.pearcorr" in found) == (column != "size")


@pytest.mark.parametrize(("mark", "decimal"), [(";", "."), (";", ","), ("\t", ".")])
def test_other_marks_between_fields_and_decimal_commas(tmp_path: Path, mark: str, decimal: str) -> None:
    table = planted(4)
    plain = read_task(write(tmp_path / "plain.csv", table))
    other = [table[0], *([v if i == 0 else v.replace(".", decimal) for i, v in enumerate(row)] for row in table[1:])]
    path = tmp_path / "t.csv"
    path.write_bytes("\r\n".join([*(mark.join(row) for row in other), mark * 3, ""]).encode("utf-8-sig"))
    found = read_task(path)
    assert np.array_equal(found.losses, plain.losses) and np.array_equal(found.sizes, plain.sizes)
    assert found.models == plain.models and np.array_equal(found.parameters, plain.parameters)


def test_budgets_below_the_smallest_size_are_skipped_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rectified, "BUDGETS", (8, 64))
    write(tmp_path / "short.csv", planted(4, SIZES[:5]))
    outcome = rectified.measure(read_tasks(tmp_path), 0)
    assert {r["budget"] for r in outcome.rows} == {8} and np.isfinite(outcome.summary["pearcorr"])
    assert "no size within 1/64 of 3,200" in capsys.readouterr().err
    write(tmp_path / "short.csv", planted(4, SIZES[:2]))
    with pytest.raises(InputError, match="within 1/8"):
        rectified.measure(read_tasks(tmp_path), 0)


def test_many_models_are_not_fitted_one_by_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rectified, "_MOST_ONE_BY_ONE", 3)
    write(tmp_path / "t.csv", planted(4))
    found = summary_of(tmp_path)
    assert "law.pearcorr" not in found and np.isfinite(found["ats.pearcorr"])
    assert "law and law_bounded are left out" in capsys.readouterr().err


def test_one_model_has_an_error_and_no_correlation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "one.csv", planted(1))
    found = summary_of(tmp_path)
    assert found["abs_ln_error"] < 0.3 and "pearcorr" not in found and all(np.isfinite(v) for v in found.values())
    assert "pearcorr is undefined" in capsys.readouterr().err
    write(tmp_path / "four.csv", planted(4, seed=1))
    assert np.isfinite(summary_of(tmp_path)["pearcorr"]), "the other task's cells remain"


def test_files_that_are_no_task_are_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "notes.csv", [["task", "shots"], ["a", "1"]])
    with pytest.raises(InputError, match=r"notes\.csv is no task"):
        read_tasks(tmp_path)
    write(tmp_path / "empty.csv", planted(3)[:1])
    write(tmp_path / "t.csv", planted(3))
    assert [t.name for t in read_tasks(tmp_path)] == ["t"]
    said = capsys.readouterr().err
    assert "notes.csv is no task" in said and "empty.csv is no task" in said


def test_the_command_refuses_with_a_sentence_and_writes_no_null(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = tmp_path / "data", tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["rectified", "--data", str(data), "--json", str(out)])
    with pytest.raises(SystemExit) as refused:
        rectified.main()
    assert refused.value.code == 2 and "holds no csv file" in capsys.readouterr().err and not out.exists()
    data.mkdir()
    write(data / "one.csv", planted(1))
    rectified.main()
    assert None not in json.loads(out.read_text())["summary"].values()


def test_speed_takes_whole_curves_and_refuses_where_there_are_none(tmp_path: Path) -> None:
    table = planted(5)
    table[1][table[0].index("400")] = ""
    write(tmp_path / "holes.csv", table)
    sizes, losses, target = speed.curves(tmp_path, 20, 0)
    assert losses.shape == (20, 8) and np.isfinite(losses).all() and target == 1638400
    write(tmp_path / "holes.csv", planted(2, SIZES[:7]))
    sizes, losses, target = speed.curves(tmp_path, 20, 0)
    assert sizes.tolist() == [200, 400, 800, 1600] and target == 12800, "up to 1/8, since 1/64 holds one size"
    write(tmp_path / "holes.csv", planted(2, SIZES[:3]))
    with pytest.raises(InputError, match="4 or more"):
        speed.curves(tmp_path, 20, 0)
