"""The command line, run in this process."""

import sys

import pytest

from orrery.cli import main


@pytest.fixture
def orrery(capsys, monkeypatch):
    """Runs the command line in this process: (exit code, standard output, standard error)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["orrery", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main.run()
            raise SystemExit(0)
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return call
