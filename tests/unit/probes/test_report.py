"""The report: never above 4,096 bytes, never half written, numbers that repeat."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.api.probe import REPORT_LIMIT, Outcome, Report, TaskFacts, TrialResult
from orrery.probes.report import encode, number, pack_bits, unpack_bits, write_report

pytestmark = pytest.mark.unit

decimals = st.floats(-1e25, 1e25).map(number)
optional = st.none() | decimals
bits = st.lists(st.booleans(), max_size=8192).map(pack_bits)
trial = st.builds(
    TrialResult,
    name=st.from_regex(r"[a-z][a-z0-9]{0,46}", fullmatch=True),
    outcome=st.sampled_from(Outcome),
    score=optional,
    items=st.integers(0, 8192),
    bits=st.none() | bits,
    standard_error=optional,
    train_seconds=optional,
    evaluation_seconds=optional,
    evaluation_tokens=st.integers(0, 2**53),
    evaluation_flops=optional,
    peak_memory_bytes=st.none() | st.integers(0, 2**40),
    train_loss=st.lists(decimals, max_size=16),
    message=st.none() | st.text(st.characters(codec="utf-8"), max_size=1024),
)
reports = st.builds(
    Report,
    probe=st.just("probe-0123456789abcdef"),
    complete=st.booleans(),
    model_facts=st.none() | st.just({"parameters": 135_000_000, "layers": 30}),
    architecture=st.none() | st.just("LlamaForCausalLM"),
    task_facts=st.none()
    | st.builds(TaskFacts, digest=st.just("0" * 64), train_examples=st.just(5), evaluation_examples=st.just(5)),
    trials=st.lists(trial, max_size=64),
    error=st.none() | st.text(st.characters(codec="utf-8"), max_size=1024),
)


@settings(max_examples=60, deadline=None)
@given(reports)
def test_a_report_always_fits_and_can_be_read_back(report: Report) -> None:
    data = encode(report)
    assert len(data) <= REPORT_LIMIT
    read = Report.model_validate(json.loads(data))
    assert read.probe == report.probe and read.complete == report.complete
    assert [t.name for t in read.trials] == [t.name for t in report.trials][: len(read.trials)]
    for told, asked in zip(read.trials, report.trials, strict=False):
        assert (told.outcome, told.score, told.items) == (asked.outcome, asked.score, asked.items)
    if len(read.trials) < len(report.trials):
        assert read.reason == "ReportTooLarge" and str(len(report.trials)) in (read.error or "")


def test_the_worst_case_there_is_fits() -> None:
    worst = TrialResult(
        name="x" * 48,
        outcome=Outcome.MEASURED,
        score=number(-0.123456),
        items=8192,
        bits=pack_bits([True] * 8192),
        train_loss=[number(0.123456)] * 16,
        message="ä" * 1024,
    )
    trials = [worst.model_copy(update={"name": f"{i:02}" + "x" * 46}) for i in range(64)]
    assert len(encode(Report(probe="p" * 63, complete=True, trials=trials, error="€" * 1024))) <= REPORT_LIMIT


def test_optional_things_go_in_the_documented_order_and_no_further_than_needed() -> None:
    def report(n: int) -> Report:
        trials = [
            TrialResult(
                name=f"trial{i}",
                outcome=Outcome.MEASURED,
                score=number(0.5),
                items=200,
                bits=pack_bits([True, False] * 100),
                standard_error=number(0.035),
                evaluation_seconds=number(10.25),
                train_loss=[number(1.25)] * 16,
                message="a remark of some length",
            )
            for i in range(n)
        ]
        return Report(probe="probe-0", complete=True, trials=trials)

    def kept(n: int) -> dict[str, int]:
        read = Report.model_validate(json.loads(encode(report(n))))
        return {
            "train_loss": sum(bool(t.train_loss) for t in read.trials),
            "message": sum(bool(t.message) for t in read.trials),
            "bits": sum(bool(t.bits) for t in read.trials),
            "standard_error": sum(t.standard_error is not None for t in read.trials),
            "trials": len(read.trials),
        }

    assert kept(8) == {"train_loss": 8, "message": 8, "bits": 8, "standard_error": 8, "trials": 8}
    some = kept(15)
    assert 0 < some["train_loss"] < 15 and some["message"] == some["bits"] == 15
    fewer = kept(30)
    assert fewer["train_loss"] == fewer["message"] == 0 and 0 < fewer["bits"] < 30 and fewer["standard_error"] == 30
    assert kept(55)["trials"] == 55


@given(st.floats())
def test_numbers_are_finite_short_and_within_six_digits(value: float) -> None:
    if not abs(value) < 1e29:
        with pytest.raises(FloatingPointError):
            number(value)
        return
    assert math.isclose(float(number(value)), value, rel_tol=1e-5, abs_tol=1e-11)


@given(st.lists(st.booleans(), max_size=300))
def test_bits_come_back(right: list[bool]) -> None:
    assert unpack_bits(pack_bits(right), len(right)) == right


def test_bits_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="20 items need 3"):
        unpack_bits(pack_bits([True] * 8), 20)


def test_writing_replaces_the_file_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    for complete in (False, True):
        write_report(Report(probe="probe-0", complete=complete), path)
        assert json.loads(path.read_text())["complete"] is complete
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_a_file_that_cannot_be_renamed_over_is_written_in_place(tmp_path: Path) -> None:
    path = tmp_path / "termination-log"
    path.write_text("x" * 9000)
    path.chmod(0o666)
    inode = path.stat().st_ino
    blocked = tmp_path / f".termination-log.{__import__('os').getpid()}"
    blocked.mkdir()  # what stands in for a folder that takes no new files: the staged file cannot be made
    (blocked / "x").touch()
    write_report(Report(probe="probe-0", complete=True), path)
    assert path.stat().st_ino == inode
    assert json.loads(path.read_text())["probe"] == "probe-0"


def test_a_device_is_written_in_place() -> None:
    write_report(Report(probe="probe-0", complete=True), Path("/dev/null"))
    assert Path("/dev/null").is_char_device()
