"""``orrery report``: from a state folder to a file."""

import sys

import pytest

from orrery.cli import main
from orrery.local.publish import publish, write_inputs
from orrery.planning.types import Step

pytestmark = pytest.mark.unit


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["orrery", "report", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main.run()
    return end.value.code


@pytest.fixture
def folder(answered, tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    write_inputs(state, answered.plan, answered.prices)
    publish(state, answered.plan, Step([], True, "AnswerSettled", "", answered.status, answered.rows), 0.0)
    return state


def test_a_state_folder_becomes_a_page(monkeypatch, folder, tmp_path, capsys):
    page = tmp_path / "out.html"
    assert run(monkeypatch, folder, "-o", page) in (0, None)
    assert "with <b>lora</b>" in page.read_text() and "wrote" in capsys.readouterr().err


def test_it_can_be_piped(monkeypatch, folder, capsys):
    assert run(monkeypatch, folder, "-o", "-") in (0, None)
    assert capsys.readouterr().out.startswith("<!doctype html>")


def test_a_folder_without_an_answer_is_bad_input(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, tmp_path, "-o", tmp_path / "out.html") == 2
    assert "holds no answer yet" in capsys.readouterr().err and not (tmp_path / "out.html").exists()
