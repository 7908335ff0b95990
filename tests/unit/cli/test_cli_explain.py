"""``orrery explain``: one candidate, several, or none that the words name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orrery.cli.explain import explain
from orrery.cli.options import Output
from orrery.local.publish import publish, write_inputs
from orrery.planning.advance import advance
from tests.unit.planning.world import make_plan, make_prices

pytestmark = pytest.mark.unit


@pytest.fixture
def state(tmp_path: Path) -> Path:
    lora = {"name": "lora", "type": "LoRA", "grid": [{"name": "rank", "values": [4, 16]}]}
    asked, prices = make_plan(strategies=[{"name": "zero-shot", "type": "ZeroShot"}, lora]), make_prices()
    write_inputs(tmp_path, asked, prices)
    publish(tmp_path, asked, advance(asked, [], prices), 0.0)
    return tmp_path


def test_words_that_name_several_show_them_all(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(state, "lora rank=16", None, Output.JSON) == 0
    names = [c["candidate"] for c in json.loads(capsys.readouterr().out)["candidates"]]
    assert {n.split("/")[0] for n in names} == {"small", "encoder"} and all("rank=16" in n for n in names)
    assert explain(state, "lora rank=16", None, Output.TABLE) == 0
    shown = capsys.readouterr().out
    assert f"{len(names)} candidates of " in shown and "rank 16" in shown and "rank 4" not in shown


def test_words_that_name_one_show_it(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(state, "small zero-shot calibration=none", None, Output.JSON) == 0
    assert json.loads(capsys.readouterr().out)["candidate"]["candidate"].startswith("small/zero-shot(")


def test_words_that_name_none_are_answered_with_names(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(state, "prayer", None, Output.TABLE) == 2
    assert "error: 'prayer' matches no candidate: write one of\n  " in capsys.readouterr().err


def test_everything_names_the_break_even_and_the_work_beside_the_money(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # on a narrow terminal columns go below their rows
    assert explain(state, None, None, Output.JSON) == 0
    found = json.loads(capsys.readouterr().out)["breakEven"]
    assert {found["early"].split("/")[1][:4], found["late"].split("/")[1][:4]} == {"zero", "lora"}
    assert explain(state, None, None, Output.TABLE) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "break-even" in shown and "cheaper than" in shown and "<b>" not in shown
    assert "cost USD hours FLOPs status configuration" in shown
