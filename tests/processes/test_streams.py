"""Standard output that closes, fills up or was never there: an exit code and a sentence, never a fault of Orrery."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

COMMAND = [sys.executable, "-m", "orrery.cli.main", "crds"]


def test_a_reader_that_leaves_is_no_answer() -> None:
    process = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 141 and said == b"", "1 would say that nothing meets the objective"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_said() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(COMMAND, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 74 and done.stderr == "error: the output could not be written: No space left on device\n"


def test_without_standard_output_it_runs_all_the_same(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--output", str(tmp_path)], stderr=subprocess.PIPE, timeout=60, check=False, preexec_fn=_closed
    )
    assert (done.returncode, done.stderr) == (0, b"") and list(tmp_path.iterdir())


def _closed() -> None:
    os.close(1)
