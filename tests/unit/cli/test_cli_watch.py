"""What `orrery watch` makes of state folders and of the API server's objects; completion. Terminals are in tests/integration."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orrery.api.plan import AdaptationPlan
from orrery.api.status import PlanStatus, Spend
from orrery.cli import completion
from orrery.cli.completion import kubectl
from orrery.cli.snapshot import folders, of_folder, of_objects
from orrery.cli.watch import exit_code, picture
from orrery.local.files import StateError, lock, write_json
from orrery.local.publish import publish, write_inputs
from orrery.local.store import Store
from orrery.planning.types import Step
from tests.unit.local import planner

pytestmark = pytest.mark.unit


def begun(folder: Path, plan: AdaptationPlan | None = None) -> Path:
    """A state in which one probe has been reserved for, as the engine writes it."""
    plan = plan or planner.plan("good")
    write_inputs(folder, plan, planner.prices())
    step = planner.advance(plan, [], planner.prices(), None)
    request = step.start[0]
    store = Store(folder)
    store.reserve(
        request, request.spec, planner.prices().spec.accelerators[0].price_per_hour, 1, "2026-01-01T00:00:00Z"
    )
    publish(folder, plan, step, 0.0)
    return folder


def test_a_folder_s_open_attempt_runs_while_its_lock_is_held(tmp_path: Path) -> None:
    state = begun(tmp_path / ".orrery" / "default" / "stub")
    assert folders(tmp_path / ".orrery") == folders(state) == [state]
    (probe,) = of_folder(state).probes
    assert probe.state == "ended" and "`orrery run` the plan again" in probe.message
    held = lock(next(state.glob("probes/*/attempt-1")) / "alive")
    assert held is not None
    (probe,) = of_folder(state).probes
    assert (probe.state, probe.model, probe.what, probe.message) == ("running", "m0", "2 ZeroShot", "")
    assert probe.ran() > 0 and probe.deadline_seconds == 20
    assert not of_folder(state).settled


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    state = begun(tmp_path / "state")
    (state / "prices.yaml").unlink()
    with pytest.raises(StateError, match=r"prices.yaml cannot be read"):
        of_folder(state)
    write_json(state / "prices.yaml", [])
    assert of_folder(state).currency == ""


def test_the_picture_shows_what_moves_first_and_takes_brackets_for_text(tmp_path: Path) -> None:
    from io import StringIO

    from rich.console import Console

    status = PlanStatus(phase="Answered", spend=Spend(currency="USD", cost="1", reserved="0", accelerator_seconds="1"))
    done, moving = planner.plan("good", name="a"), planner.plan("good", name="z")
    for plan in (done, moving):
        begun(tmp_path / plan.metadata.name, plan)
    for attempt in (tmp_path / "a").glob("probes"):
        attempt.rename(tmp_path / "elsewhere")
    publish(tmp_path / "a", done, Step((), True, "", "", status, ()), 0.0)
    screen = Console(file=StringIO(), width=80, color_system=None)
    screen.print(picture([of_folder(tmp_path / "a"), of_folder(tmp_path / "z")]))
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert text.index("default/z") < text.index("default/a") and "2 plans, 1 not settled" in text
    assert "1.00 spent, 0.00 reserved of 1.00 USD" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80


def test_nothing_to_watch_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no plan has a state below"):
        folders(tmp_path)


def plan_object(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "a", "uid": "1", "generation": 2},
        "spec": {"budget": {"maxProbeCost": "2"}},
        "status": {"observedGeneration": 2, "phase": "Probing", "from_the_future": {"x": 1}, **status},
    }


def test_objects_of_the_api_server_are_read_as_folders_are() -> None:
    probe = {
        "metadata": {"name": "probe-1", "namespace": "a", "ownerReferences": [{"uid": "1"}]},
        "spec": {"model": {"name": "m"}, "deadlineSeconds": 60, "trials": [{"strategy": "LoRA"}, {"strategy": "LoRA"}]},
        "status": {"attempts": [{"phase": "Failed"}, {"phase": "Queued", "message": "0/3 nodes are available"}]},
    }
    foreign = {**probe, "metadata": {**probe["metadata"], "ownerReferences": [{"uid": "2"}]}}
    spend = {"currency": "EUR", "cost": "1.5", "reserved": "0.25", "acceleratorSeconds": "10"}
    (one,) = of_objects([plan_object(spend=spend)], [probe, foreign])
    document = one.document()
    assert (document["spent"], document["reserved"], document["currency"]) == ("1.5", "0.25", "EUR")
    assert document["probes"] == [
        {"name": "probe-1", "model": "m", "trials": "2 LoRA", "state": "queued", "message": "0/3 nodes are available"}
    ]
    # an answer to what the spec was before is no answer
    (late,) = of_objects([plan_object(phase="Answered", observedGeneration=1)], [])
    (now,) = of_objects([plan_object(phase="Answered")], [])
    assert not late.settled and now.settled
    (stalled,) = of_objects([plan_object(phase="Stalled")], [])
    assert (exit_code([now]), exit_code([now, stalled]), exit_code([])) == (0, 2, 0)


def test_words_of_plans_states_and_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = begun(tmp_path / ".orrery" / "default" / "stub")
    (tmp_path / "plans").mkdir()
    for name in ("a.yaml", "b.yml", "notes.txt"):
        (tmp_path / "plans" / name).write_text("metadata:\n  name: stub\n")
    assert completion.plan_files("") == ["plans/"] and completion.plan_files("plans/") == [
        "plans/a.yaml",
        "plans/b.yml",
    ]
    assert completion.plan_files("nowhere/x") == []
    assert completion.states(".orrery/d") == [".orrery/default/stub"] and completion.states("p") == ["plans/"]
    row = '{"model":"m0","strategy":"lora","configuration":[["rank","8"]]}\n'
    (state / "results.jsonl").write_text(row)
    for where in (str(state), "plans/a.yaml"):
        context = SimpleNamespace(params={"where": where})
        assert completion.candidates(context, "") == ["m0", "lora", "rank=8"]
    assert completion.candidates(context, "ra") == ["rank=8"]
    assert completion.candidates(SimpleNamespace(params={"where": None}), "") == []


def test_kubectl_is_told_completions_as_it_asks_for_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))  # a process of its own would keep it
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-orrery", "ex"])
    kubectl()
    out = capsys.readouterr().out.splitlines()
    assert out[0].split("\t")[0] == "explain" and out[-1] == ":4"
