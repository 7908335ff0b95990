"""The answer as files: what is kept when nothing changed, and what JSON cannot hold."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from orrery.api.status import PlanStatus
from orrery.cli.failures import Exit
from orrery.cli.run import exit_code
from orrery.local.engine import Answer
from orrery.local.publish import RESULTS, parse_row, publish, read_rows, row_line, stamp
from orrery.planning.advance import advance
from tests.unit.planning.plans import PRICES, tiny
from tests.unit.planning.world import World, drive

pytestmark = pytest.mark.unit


def test_a_condition_keeps_its_time_until_it_changes() -> None:
    probing, answered = (advance(tiny(), [], PRICES).status, drive(tiny(), PRICES, World(seed=3)).last.status)
    first = stamp(probing, None, 1, 1000.0)
    again = stamp(probing, first, 1, 2000.0)
    assert again == first and {c.last_transition_time for c in again.conditions} == {"1970-01-01T00:16:40.000Z"}
    later = {c.type: c for c in stamp(answered, again, 2, 3000.0).conditions}
    changed = {kind for kind, c in later.items() if c.last_transition_time == "1970-01-01T00:50:00.000Z"}
    assert changed == {"Ready", "Reconciling", "ProbesCompleted", "Feasible"}
    assert {c.observed_generation for c in later.values()} == {2}


def test_rows_are_read_as_they_were_written_and_what_is_no_number_is_none(tmp_path: Path) -> None:
    step = drive(tiny(), PRICES, World(seed=3)).last
    publish(tmp_path, tiny(), step, 1000.0)
    assert read_rows(tmp_path) == [parse_row(row_line(row)) for row in step.rows] and len(step.rows) == 5
    row = replace(step.rows[0], latency_milliseconds=math.nan, cost_of_pass=math.inf)
    line = row_line(row)
    found = json.loads(line)
    assert found["latency_milliseconds"] is None and found["cost_of_pass"] is None
    assert parse_row(line) == replace(row, latency_milliseconds=None, cost_of_pass=None)
    before = (tmp_path / RESULTS).stat().st_mtime_ns
    publish(tmp_path, tiny(), step, 2000.0)
    assert (tmp_path / RESULTS).stat().st_mtime_ns == before, "a file that says the same is not touched"


@pytest.mark.parametrize(
    ("phase", "interrupted", "code"),
    [
        ("Answered", False, Exit.OK),
        ("Answered", True, Exit.UNFINISHED),
        ("Suspended", False, Exit.UNFINISHED),
        ("Stalled", False, Exit.BAD_INPUT),
        ("Infeasible", False, Exit.NEGATIVE),
        ("Failed", False, Exit.NEGATIVE),
    ],
)
def test_a_run_ends_with_the_code_of_its_phase(phase: str, interrupted: bool, code: Exit) -> None:
    step = drive(tiny(), PRICES, World(seed=3)).last
    status: PlanStatus = step.status.model_copy(update={"phase": phase})
    assert exit_code(Answer(replace(step, status=status), [], interrupted=interrupted)) is code
