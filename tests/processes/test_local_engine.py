"""The engine with real processes and a planner that is small enough to see through."""

import json
import os
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from orrery.api.probe import TaskFacts
from orrery.local import engine, processes
from orrery.local.files import StateBusy, only_run
from orrery.local.store import Store
from orrery.planning.types import Facts, ProbeState
from tests.processes.harness import STUB, Quiet, answer, settings
from tests.unit.local import planner
from tests.waiting import until

pytestmark = pytest.mark.process


def by_model(result):
    return {record.spec.model.family: record for record in result.records}


def test_every_way_a_probe_can_go_wrong_has_its_reason_and_stops_nothing(tmp_path):
    """A failed, lying, killed or silent probe is recorded as such, and the good one is still measured."""
    expected = {
        "good": "Completed",
        "crash": "Crashed",
        "flaky": "Completed",
        "silent": "ReportMissing",
        "foreign": "ForeignReport",
        "wrong-data": "DataMismatch",
        "nan": "ReportInvalid",
        "above-one": "ReportImplausible",
        "false-bits": "ReportImplausible",
        "time-traveller": "ReportImplausible",
        "long": "ReportTooLarge",
        "garbage": "ReportInvalid",
        "huge": "ReportTooLarge",
        "no-data": "InvalidData",
        "half-then-killed": "OutOfMemory",
        "half-then-crash": "Completed",
    }
    facts = Facts(task=TaskFacts(digest="a" * 64, train_examples=1, evaluation_examples=1))
    result = answer(planner.plan(*expected, budget="10000"), tmp_path / "state", facts=facts)
    records = by_model(result)
    assert {family: record.reason for family, record in records.items()} == expected
    good = {f for f, r in records.items() if r.state is ProbeState.SUCCEEDED}
    assert good == {"good", "flaky", "half-then-crash"}
    assert result.step.finished and not result.interrupted
    # An out-of-memory probe and unusable data are answers: they are not tried again. The rest is, once.
    assert records["half-then-killed"].attempts == records["no-data"].attempts == 1
    assert records["crash"].attempts == 2 and records["flaky"].attempts == 2
    assert len(records["half-then-killed"].report.trials) == 1  # what was measured before counts
    assert all(record.cost > 0 for record in records.values())
    for family in ("nan", "foreign", "wrong-data", "above-one"):
        assert records[family].report is None


def test_a_hanging_probe_is_ended_at_its_deadline_and_charged_at_most_its_reservation(tmp_path):
    began = time.monotonic()
    records = by_model(answer(planner.plan("half-then-hang", "stubborn", deadline=2), tmp_path / "state"))
    assert time.monotonic() - began < 30, "they hang for 60 s"
    for family in ("half-then-hang", "stubborn"):
        record = records[family]
        assert record.reason == "DeadlineExceeded" and record.attempts == 1
        assert Decimal("0.001") < record.cost <= Decimal("0.002")  # 3.6 an hour is 0.001 a second
    assert [t.name for t in records["half-then-hang"].report.trials] == ["t0"]
    assert records["stubborn"].report is None


def test_a_second_attempt_only_measures_what_is_left(tmp_path):
    journal = tmp_path / "journal"
    result = answer(planner.plan("half-then-crash"), tmp_path / "state", environment={"STUB_JOURNAL": str(journal)})
    assert journal.read_text().splitlines() == ["begin m0 t0", "begin m0 t1", "begin m0 t1", "end m0 t1"]
    (record,) = result.records
    assert [t.name for t in record.report.trials] == ["t0", "t1"] and record.report.complete


def test_running_again_starts_nothing_and_says_the_same(tmp_path):
    plan = planner.plan("good", "good")
    first, seen = answer(plan, tmp_path / "state"), Quiet()
    files = {p: p.read_bytes() for p in (tmp_path / "state").rglob("*") if p.is_file()}
    again = answer(plan, tmp_path / "state", seen)
    assert seen.events == []
    assert again.records == first.records
    assert files == {p: p.read_bytes() for p in (tmp_path / "state").rglob("*") if p.is_file()}


def test_a_price_that_changes_later_does_not_change_what_was_paid(tmp_path):
    plan = planner.plan("good")
    paid = answer(plan, tmp_path / "state").records[0].cost
    dearer = answer(plan, tmp_path / "state", prices=planner.prices("36"))
    assert dearer.records[0].cost == paid


def test_money_in_two_currencies_is_not_added_up(tmp_path):
    answer(planner.plan("good"), tmp_path / "state")
    euro = planner.prices()
    euro = euro.model_copy(update={"spec": euro.spec.model_copy(update={"currency": "EUR"})})
    with pytest.raises(Exception, match=r"in EUR, and the probes in .* were paid in USD: give a PriceList in USD"):
        answer(planner.plan("good"), tmp_path / "state", prices=euro)


def test_a_state_folder_belongs_to_one_plan(tmp_path):
    answer(planner.plan("good", name="one"), tmp_path / "state")
    with pytest.raises(Exception, match="holds the state of the plan 'one', and this one is 'two'"):
        answer(planner.plan("good", name="two"), tmp_path / "state")


def test_another_plan_pays_nothing_for_what_was_measured(tmp_path):
    root = tmp_path / "root"
    answer(planner.plan("good", "good", name="one"), root / "default" / "one")
    other, seen = planner.plan("good", "good", name="two", budget="2"), Quiet()
    result = answer(other, root / "default" / "two", seen, reuse=root)
    assert seen.events == [("reused", 4)]
    assert [(r.reused, r.cost, r.seconds) for r in result.records] == [(True, Decimal(0), 0.0)] * 2
    # It is this plan's now: the other may be deleted.
    import shutil

    shutil.rmtree(root / "default" / "one")
    assert answer(other, root / "default" / "two", reuse=root).records == result.records


def test_measurements_of_other_data_are_not_reused_and_are_taken_again(tmp_path):
    plan = planner.plan("good")
    old, new = ("a" * 64, "b" * 64)

    def facts(digest):
        return Facts(task=TaskFacts(digest=digest, train_examples=1, evaluation_examples=1))

    root = tmp_path / "root"
    first = answer(plan, root / "default" / "one", environment={"STUB_DIGEST": old}, facts=facts(old))
    seen = Quiet()
    answer(plan, root / "default" / "two", seen, environment={"STUB_DIGEST": new}, facts=facts(new), reuse=root)
    assert [event[0] for event in seen.events] == ["started", "ended"]
    again = answer(plan, root / "default" / "one", environment={"STUB_DIGEST": new}, facts=facts(new))
    (record,) = again.records
    assert record.state is ProbeState.SUCCEEDED and record.report.task_facts.digest == new
    assert record.cost > first.records[0].cost  # both were paid for


def test_interrupted_once_it_keeps_partial_reports_and_goes_on_later(tmp_path):
    stop, seen = engine.Stop(), Quiet()
    state = tmp_path / "state"

    def interrupt():
        if list(state.glob("probes/*/attempt-1/report.json")) and not stop.asked:
            stop.ask()

    seen.on_wait = interrupt
    plan = planner.plan("half-then-hang")
    result = answer(plan, state, seen, stop)
    assert result.interrupted
    (record,) = result.records
    assert (record.reason, record.attempts, len(record.report.trials)) == ("Interrupted", 0, 1)
    assert record.cost > 0 and record.reserved == 0
    (after,) = answer(plan, state).records
    assert after.state is ProbeState.SUCCEEDED and after.cost > record.cost


def test_interrupted_twice_it_ends_at_once(tmp_path):
    stop, seen = engine.Stop(asked=2), Quiet()
    stop.asked = 0
    state = tmp_path / "state"

    def interrupt():
        if list(state.glob("probes/*/attempt-1/started.json")):
            stop.asked = 2

    seen.on_wait = interrupt
    began = time.monotonic()
    result = engine.run(
        planner.plan("stubborn"),
        planner.prices(),
        Facts(),
        engine.Settings(
            state=state,
            command=lambda spec, report: [sys.executable, str(STUB), str(spec), str(report)],
            grace_seconds=30,
        ),
        planner.advance,
        seen,
        stop,
    )
    assert result.interrupted and time.monotonic() - began < 20


def test_the_plan_s_own_deadline_ends_probing_and_still_answers(tmp_path):
    plan = planner.plan("good", "hang", activeDeadlineSeconds=2)
    result = answer(plan, tmp_path / "state")
    assert result.out_of_time and result.step.finished
    records = by_model(result)
    assert records["good"].state is ProbeState.SUCCEEDED and records["hang"].reason == "Interrupted"
    assert answer(plan, tmp_path / "state").records == result.records


def test_what_runs_for_the_data_of_before_an_edit_is_ended_and_paid(tmp_path):
    seen, state = Quiet(), tmp_path / "state"

    def die():
        if list(state.glob("probes/*/attempt-1/started.json")):
            raise KeyboardInterrupt  # the run is gone, its probe goes on

    seen.on_wait = die
    with pytest.raises(KeyboardInterrupt):
        answer(planner.plan("hang"), state, seen)
    assert next(state.glob("probes/*/attempt-1/alive")).exists()
    began, seen = time.monotonic(), Quiet()
    edited = planner.plan("good", task={"dataset": {"source": {"builtin": {"name": "other-task"}}}})
    result = answer(edited, state, seen)
    assert time.monotonic() - began < 10 and result.step.finished
    old, new = by_model(result)["hang"], by_model(result)["good"]
    assert (old.reason, old.attempts, old.reserved) == ("Interrupted", 0, 0) and old.cost > 0
    assert new.state is ProbeState.SUCCEEDED
    assert seen.events.index(("started", new.name)) < seen.events.index(("ended", "Interrupted"))


def test_suspended_it_starts_nothing(tmp_path):
    result = answer(planner.plan("good", suspend=True), tmp_path / "state")
    assert result.records == [] and result.step.finished


def test_two_runs_cannot_share_a_state_folder(tmp_path):
    with only_run(tmp_path / "state"), pytest.raises(StateBusy, match="in use by another `orrery run`"):
        answer(planner.plan("good"), tmp_path / "state")


def test_spend_and_reservations_never_pass_the_budget(tmp_path):
    """Three probes of worst case 0.02 within 0.03: one at a time, and no fourth attempt when the money is gone."""
    most = Decimal(0)
    store = Store(tmp_path / "state")
    seen = Quiet()

    def look():
        nonlocal most
        total = sum((a.record.cost if a.record.ended else a.record.reserved for a in store.all_attempts()), Decimal(0))
        most = max(most, total)

    seen.on_wait = look
    result = answer(planner.plan("good", "flaky", "slow", budget="0.03"), tmp_path / "state", seen)
    assert Decimal("0.02") <= most <= Decimal("0.03")
    assert all(record.state is ProbeState.SUCCEEDED for record in result.records)


def test_a_planner_that_asks_beyond_the_budget_is_stopped(tmp_path):
    def greedy(plan, records, prices, facts):
        generous = plan.model_copy(
            update={"spec": plan.spec.model_copy(update={"budget": planner.plan("good").spec.budget})}
        )
        return planner.advance(generous, records, prices, facts)

    with pytest.raises(Exception, match="beyond spec"):
        engine.run(
            planner.plan("good", budget="0.001"),
            planner.prices(),
            Facts(),
            settings(tmp_path / "state"),
            greedy,
            Quiet(),
            engine.Stop(),
        )
    assert not list((tmp_path / "state").glob("probes/*/attempt-*"))


def test_threads_are_bounded_and_the_caller_s_environment_passes():
    environment = processes.probe_environment(1, {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "64"})
    assert (environment["OMP_NUM_THREADS"], environment["HF_HUB_OFFLINE"]) == ("1", "1")


def test_a_memory_limit_makes_a_greedy_probe_fail_and_not_the_machine(tmp_path):
    folder = tmp_path / "attempt-1"
    folder.mkdir()
    child = processes.start(
        folder,
        [sys.executable, "-c", "bytearray(10**9)"],
        deadline_seconds=60,
        grace_seconds=1,
        memory_bytes=400 * 2**20,
        environment=os.environ,
    )
    assert child.wait(60) == 0
    assert json.loads((folder / "exit.json").read_text())["code"] == 1
    assert "MemoryError" in (folder / "log.txt").read_text()


def test_a_command_that_does_not_exist_is_said_so(tmp_path):
    folder = tmp_path / "attempt-1"
    folder.mkdir()
    processes.start(
        folder,
        ["/nonexistent/orrery"],
        deadline_seconds=60,
        grace_seconds=1,
        memory_bytes=None,
        environment=os.environ,
    ).wait(60)
    assert json.loads((folder / "exit.json").read_text())["cause"] == "NotExecutable"


def _gone(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_probe_dies_with_its_shepherd(tmp_path):
    if sys.platform != "linux":
        pytest.skip("PR_SET_PDEATHSIG is Linux's")
    folder = tmp_path / "attempt-1"
    folder.mkdir()
    code = "import os,sys,time; print(os.getpid(), flush=True); time.sleep(60)"
    child = processes.start(
        folder,
        [sys.executable, "-c", code],
        deadline_seconds=60,
        grace_seconds=1,
        memory_bytes=None,
        environment=os.environ,
    )
    while not (text := (folder / "log.txt").read_text()).endswith("\n"):
        time.sleep(0.01)
    child.kill()
    child.wait()
    until(lambda: _gone(int(text)), 10, every=0.01, what="the probe outlived its shepherd")
    assert not processes.alive(folder)
    assert not (folder / "exit.json").exists()


def test_the_state_folder_reads_as_documented(tmp_path):
    state = tmp_path / "state"
    answer(planner.plan("good"), state)
    (probe,) = (state / "probes").iterdir()
    manifest = yaml.safe_load((probe / "spec.yaml").read_text())
    assert (manifest["kind"], manifest["metadata"]["name"]) == ("AdaptationProbe", probe.name)
    assert {p.name for p in (probe / "attempt-1").iterdir()} == {
        "spec.yaml",
        "record.json",
        "report.json",
        "log.txt",
        "started.json",
        "exit.json",
        "alive",
    }
    status = yaml.safe_load((state / "status.yaml").read_text())
    assert status["phase"] == "Answered" and status["spend"]["currency"] == "USD"


def test_a_broken_record_is_named(tmp_path):
    state = tmp_path / "state"
    answer(planner.plan("good"), state)
    (record,) = state.glob("probes/*/attempt-1/record.json")
    record.write_text("{")
    with pytest.raises(Exception, match=r"record\.json cannot be read .* delete it"):
        answer(planner.plan("good"), state)


def test_signals_from_another_thread_end_the_wait(tmp_path):
    stop = engine.Stop()
    threading.Timer(0.5, stop.ask).start()
    began = time.monotonic()
    assert answer(planner.plan("hang"), tmp_path / "state", stop=stop).interrupted
    assert time.monotonic() - began < 15, "the probe has 20 s"
