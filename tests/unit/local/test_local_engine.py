"""The engine with real processes and a planner that is small enough to see through."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
import planner

from orrery.api.probe import TaskFacts
from orrery.local import engine, processes
from orrery.local.files import StateBusy, only_run
from orrery.local.store import Store
from orrery.planning.types import Facts, ProbeState

pytestmark = pytest.mark.unit

HERE = Path(__file__).parent
STUB = HERE / "stub_probe.py"
PROBING = {"deadlineSeconds": 20, "retries": 1}


class Quiet:
    def __init__(self):
        self.events = []
        self.on_wait = lambda: None

    def step(self, step, records):
        pass

    def started(self, request, attempt):
        self.events.append(("started", request.name))

    def adopted(self, attempt):
        self.events.append(("adopted", attempt.probe))

    def ended(self, attempt):
        self.events.append(("ended", attempt.record.reason))

    def reused(self, trials):
        self.events.append(("reused", trials))

    def waiting(self):
        self.on_wait()


def settings(state, **changes):
    environment = {**os.environ, **changes.pop("environment", {})}
    return engine.Settings(
        state=state,
        command=lambda spec, report: [sys.executable, str(STUB), str(spec), str(report)],
        grace_seconds=0.3,
        environment=environment,
        poll_seconds=0.01,
        **changes,
    )


def answer(plan, state, observer=None, stop=None, prices=None, facts=None, **changes):
    return engine.run(
        plan,
        prices or planner.prices(),
        facts or Facts(),
        settings(state, **changes),
        planner.advance,
        observer or Quiet(),
        stop or engine.Stop(),
    )


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
    records = by_model(answer(planner.plan("half-then-hang", "stubborn", deadline=1), tmp_path / "state"))
    assert time.monotonic() - began < 5
    for family in ("half-then-hang", "stubborn"):
        record = records[family]
        assert record.reason == "DeadlineExceeded" and record.attempts == 1
        assert Decimal("0.0005") < record.cost <= Decimal("0.001")  # 3.6 an hour is 0.001 a second
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
    assert result.interrupted and time.monotonic() - began < 5


def test_the_plan_s_own_deadline_ends_probing_and_still_answers(tmp_path):
    plan = planner.plan("good", "hang", activeDeadlineSeconds=1)
    result = answer(plan, tmp_path / "state")
    assert result.out_of_time and result.step.finished
    records = by_model(result)
    assert records["good"].state is ProbeState.SUCCEEDED and records["hang"].reason == "Interrupted"
    assert answer(plan, tmp_path / "state").records == result.records


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
        deadline_seconds=10,
        grace_seconds=1,
        memory_bytes=400 * 2**20,
        environment=os.environ,
    )
    assert child.wait(10) == 0
    assert json.loads((folder / "exit.json").read_text())["code"] == 1
    assert "MemoryError" in (folder / "log.txt").read_text()


def test_a_command_that_does_not_exist_is_said_so(tmp_path):
    folder = tmp_path / "attempt-1"
    folder.mkdir()
    processes.start(
        folder,
        ["/nonexistent/orrery"],
        deadline_seconds=10,
        grace_seconds=1,
        memory_bytes=None,
        environment=os.environ,
    ).wait(10)
    assert json.loads((folder / "exit.json").read_text())["cause"] == "NotExecutable"


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
    for _ in range(200):
        if not Path(f"/proc/{int(text)}").exists() or "Z" in Path(f"/proc/{int(text)}/stat").read_text().split()[2]:
            break
        time.sleep(0.01)
    else:
        pytest.fail("the probe outlived its shepherd")
    assert not processes.alive(folder)
    assert not (folder / "exit.json").exists()


DRIVER = """
import sys
sys.path[:0] = [{here!r}]
import planner
from test_local_engine import answer, Quiet
from pathlib import Path
answer(planner.plan(*{families!r}, probing={probing!r}), Path({state!r}), environment={environment!r})
"""


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment_it_goes_on_and_pays_for_nothing_twice(tmp_path, seed):
    """kill -9 of the run at random moments, again and again, then one run to the end: as if nothing had happened."""
    families = ("slow", "good", "slow", "slow")
    probing = {"deadlineSeconds": 20, "retries": 0, "parallelism": 2}
    journal = tmp_path / "journal"
    environment = {"STUB_JOURNAL": str(journal), "STUB_SECONDS": "0.25"}
    state = tmp_path / "state"
    code = DRIVER.format(here=str(HERE), families=families, probing=probing, state=str(state), environment=environment)
    generator = random.Random(seed)
    for _ in range(3):
        run = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        limit = time.monotonic() + 20
        # Importing takes a while, and killing that shows nothing: wait until there is a state folder to break.
        while run.poll() is None and not (state / "lock").exists() and time.monotonic() < limit:
            time.sleep(0.005)
        time.sleep(generator.uniform(0.0, 0.5))
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    result = answer(planner.plan(*families, probing=probing), state, environment=environment)
    assert [r.state for r in result.records] == [ProbeState.SUCCEEDED] * 4
    lines = journal.read_text().splitlines()
    assert sorted(set(lines)) == sorted(lines), "a measurement was taken twice"
    assert len(lines) == 16
    assert sum(r.attempts for r in result.records) == 4
    untouched = answer(planner.plan(*families, probing=probing), tmp_path / "other")
    assert [(r.name, r.report) for r in result.records] == [(r.name, r.report) for r in untouched.records]


def test_when_the_machine_goes_down_the_attempt_is_charged_and_tried_again(tmp_path):
    """Run and shepherd both die, so nobody saw the end: charged up to now, never nothing; then measured again."""
    state = tmp_path / "state"
    code = DRIVER.format(here=str(HERE), families=("half-then-hang",), probing=PROBING, state=str(state), environment={})
    run = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    while not (found := list(state.glob("probes/*/attempt-1/report.json"))):
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    started = json.loads((found[0].parent / "started.json").read_text())
    os.kill(started["pid"], signal.SIGKILL)
    seen = Quiet()
    (record,) = answer(planner.plan("half-then-hang", probing=PROBING), state, seen).records
    assert seen.events[0] == ("ended", "Lost")
    assert record.state is ProbeState.SUCCEEDED and record.attempts == 2
    first = json.loads((found[0].parent / "record.json").read_text())
    assert Decimal(first["cost"]) > 0 and len(record.report.trials) == 2


def test_a_running_probe_of_a_killed_run_is_adopted_and_not_started_twice(tmp_path):
    state, journal = tmp_path / "state", tmp_path / "journal"
    environment = {"STUB_JOURNAL": str(journal), "STUB_SECONDS": "1.5"}
    code = DRIVER.format(here=str(HERE), families=("slow",), probing=PROBING, state=str(state), environment=environment)
    run = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    while not list(state.glob("probes/*/attempt-1/started.json")):
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    seen = Quiet()
    (record,) = answer(planner.plan("slow", probing=PROBING), state, seen, environment=environment).records
    assert [event[0] for event in seen.events] == ["adopted", "ended"]
    assert record.state is ProbeState.SUCCEEDED and record.attempts == 1
    assert 1.4 < record.seconds < 10 and record.cost >= Decimal("0.0014")


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
    assert time.monotonic() - began < 4
