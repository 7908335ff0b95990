"""Fine-tuning runs as they come: empty cells, repeated steps, steps as decimals, runs of unequal length."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import early_pick
from tests.benchmarks.tables import InputError

pytestmark = pytest.mark.unit

Rows = list[dict[str, object]]


def planted(count: int = 8, checkpoints: int = 20) -> tuple[Rows, Rows]:
    """Runs whose loss says what they end at; each writes its last step twice, as the release does."""
    runs: Rows = []
    curves: Rows = []
    for i in range(count):
        end = 0.5 + 0.05 * i
        runs.append({"run": f"r{i}", "test_acc": 1 - end, "trainable": 10**6 * (i + 1)})
        for k in range(1, checkpoints + 1):
            point = {"run": f"r{i}", "step": 250 * k, "train loss": end + float(np.exp(-k)), "valid accuracy": 0.3}
            curves.append(point | {"train time": 30 + i, "elapsed time": (45 + i) * k})
        curves.append({"run": f"r{i}", "step": 250 * checkpoints, "train loss": end})
    return runs, curves


def write(folder: Path, runs: Rows, curves: Rows) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in (("runs", runs), ("curves", curves)):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


def test_whole_runs_are_read_as_they_are(tmp_path: Path) -> None:
    runs, curves = planted()
    shuffled = [curves[i] for i in np.random.default_rng(0).permutation(len(curves))]
    pool = early_pick.read_pool(write(tmp_path, runs, [c | {"step": f"{c['step']}.0"} for c in shuffled]))
    assert pool.loss.shape == (8, 20) and pool.left_out == 0
    assert pool.loss[3] == pytest.approx(0.65 + np.exp(-np.arange(1.0, 21)))
    assert (pool.seconds[3] == pytest.approx(33)) and pool.elapsed[3, -1] == 48 * 20
    assert pool.share[0] == pytest.approx(np.arange(1, 21) / 20)


@pytest.mark.parametrize("cell", ["", "nan", "inf", "0.0"])
@pytest.mark.parametrize("column", ["train loss", "train time", "valid accuracy", "elapsed time"])
def test_one_cell_that_was_not_written_costs_no_run(tmp_path: Path, column: str, cell: str) -> None:
    runs, curves = planted()
    for place in (21, 21 + 7, 2 * 21 + 19):  # first, middle and last checkpoint
        curves[place] = curves[place] | {column: cell}
    pool = early_pick.read_pool(write(tmp_path, runs, curves))
    assert pool.loss.shape == (8, 20) and pool.left_out == 0
    assert all(np.isfinite(v).all() for v in vars(pool).values() if isinstance(v, np.ndarray))
    found = early_pick.scores(pool, early_pick.ours, 0)
    assert found["spearman"] > 0.7 and found["cost_share"] < 0.09


def test_a_run_whose_losses_end_is_the_worst_from_there_on(tmp_path: Path) -> None:
    runs, curves = planted()
    for place in range(2, 21):
        curves[place] = curves[place] | {"train loss": "nan"}
    pool = early_pick.read_pool(write(tmp_path, runs, curves))
    assert pool.loss[0, 1] < pool.loss[1:, 1].max() and (pool.loss[0, 2:] >= pool.loss[1:, 2:].max(axis=0)).all()


def test_unknown_parameters_neither_help_nor_harm(tmp_path: Path) -> None:
    runs, curves = planted()
    runs[0]["trainable"], runs[1]["trainable"] = "", "0"
    pool = early_pick.read_pool(write(tmp_path, runs, curves))
    assert np.isnan(pool.parameters[:2]).all() and early_pick.scores(pool, early_pick.ours, 0)["spearman"] > 0.9
    pool = early_pick.read_pool(write(tmp_path, [{k: r[k] for k in ("run", "test_acc")} for r in runs], curves))
    assert np.isnan(pool.parameters).all() and early_pick.scores(pool, early_pick.ours, 0)["spearman"] > 0.9


def test_runs_of_unequal_length_meet_at_equal_shares_of_their_steps(tmp_path: Path) -> None:
    runs, curves = planted(6, 20)
    longer = planted(8, 40)
    runs += longer[0][6:]
    curves += [c for c in longer[1] if c["run"] in ("r6", "r7")]
    pool = early_pick.read_pool(write(tmp_path, runs, curves))
    assert pool.names == [f"r{i}" for i in range(8)] and pool.loss.shape == (8, 20)
    assert pool.loss[6, 0] == pytest.approx(0.8 + (np.exp(-1) + np.exp(-2)) / 2), "two of its forty checkpoints"
    assert pool.seconds[6] == pytest.approx(72) and pool.seconds[0] == pytest.approx(30)
    everyone = [c for i in range(6) for c in curves if c["run"] == f"r{i}" and int(str(c["step"])) <= 250 * (20 - i)]
    pool = early_pick.read_pool(write(tmp_path, runs[:6], everyone))
    assert pool.left_out == 0 and pool.seconds.sum(axis=1) == pytest.approx([(30 + i) * (20 - i) for i in range(6)])


def test_runs_that_cannot_be_used_are_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, curves = planted()
    runs[0]["test_acc"] = ""
    runs.append({"run": "ghost", "test_acc": 0.5, "trainable": 1})
    curves = [c for c in curves if c["run"] != "r1" or c["step"] == 250]
    pool = early_pick.read_pool(write(tmp_path, runs, curves))
    assert len(pool.names) == 6 and pool.left_out == 3
    assert "r0, r1, ghost" in capsys.readouterr().err


def test_what_cannot_be_read_is_refused_with_the_mend(tmp_path: Path) -> None:
    runs, curves = planted()
    with pytest.raises(InputError, match=r"runs\.csv cannot be read"):
        early_pick.read_pool(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no column 'test_acc'"):
        early_pick.read_pool(write(tmp_path, [{"run": "r0"}], curves))
    with pytest.raises(InputError, match="2 usable runs"):
        early_pick.read_pool(write(tmp_path, runs[:2], curves))
    with pytest.raises(InputError, match="write accuracies as shares"):
        early_pick.read_pool(write(tmp_path, [r | {"test_acc": 42.0} for r in runs], curves))
