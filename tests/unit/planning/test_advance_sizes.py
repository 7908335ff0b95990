"""What a model's sizes gate before any probe, and what is said where they are uncertain."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from orrery.local.facts import model_reading
from orrery.planning.advance import advance
from orrery.planning.types import Facts
from orrery.probes.locations import SourceRoots
from tests.unit.planning.plans import PRICES, small, tiny
from tests.unit.planning.world import World, drive, make_prices, model

pytestmark = pytest.mark.unit


def test_memory_gate_says_its_arithmetic() -> None:
    plan = small(
        models=[model("large", parameters=8_000_000_000, layers=32, hiddenSize=4096)],
        strategies=[{"name": "full", "type": "FullFineTuning"}, {"name": "zero-shot", "type": "ZeroShot"}],
        accelerators=[{"name": "t4"}],
    )
    step = advance(plan, [], make_prices(t4="0.5"))
    full = next(r for r in step.rows if r.type == "FullFineTuning")
    assert full.status == "Rejected" and full.reason.startswith("training needs 1")
    assert "GiB (weights and optimizer 134.1 + activations " in full.reason
    assert full.reason.endswith("and t4 has 15.0 GiB")
    plain = next(r for r in step.rows if r.type == "ZeroShot")
    assert plain.reason.startswith("serving needs 17.9 GiB (weights 14.9 + ")


def test_on_a_cpu_the_process_that_trains_counts() -> None:
    # SmolLM2-135M in full peaks at 3.0 GiB alone (docs/benchmarks/costs.md), its weights and their state at 2.3
    sizes = {
        "layers": 30,
        "hiddenSize": 576,
        "heads": 9,
        "kvHeads": 3,
        "intermediateSize": 1536,
        "vocabularySize": 49_152,
    }
    trained = [{"name": "full", "type": "FullFineTuning"}, {"name": "lora", "type": "LoRA"}]
    reasons = {}
    for name in ("cpu", "tiny"):
        accelerators = [{"name": name, "memory": "2560Mi"}]
        plan = small(
            models=[model("m", parameters=134_515_008, **sizes)], strategies=trained, accelerators=accelerators
        )
        rows = advance(plan, [], make_prices(**{name: "0.1"}), Facts(task=World().task_facts)).rows
        reasons |= {(name, r.type): r.reason for r in rows if r.gated}
    assert set(reasons) == {("cpu", "FullFineTuning")}
    assert "GiB (weights and optimizer 2.3 + activations and its process 1.0)" in reasons["cpu", "FullFineTuning"]


def test_prompts_longer_than_the_model_reads_are_rejected() -> None:
    plan = small(models=[model("small", contextLength=200)], strategies=[{"name": "icl", "type": "InContext"}])
    step = advance(plan, [], PRICES, Facts(task=World().task_facts))
    long = [r for r in step.rows if dict(r.configuration)["shots"] == "8"]
    assert all("prompt + 3 answer) and small reads 200" in r.reason for r in long)


def test_the_answer_is_read_too() -> None:
    task = {
        "dataset": {"source": {"builtin": {"name": "intents"}}},
        "type": "Generation",
        "metric": {"name": "ExactMatch"},
    }
    for written, fits in ((5, True), (20, False)):
        plan = small(
            models=[model("small", contextLength=200)],
            task=task,
            strategies=[{"name": "zero-shot", "type": "ZeroShot"}],
            workload={"requestsPerDay": 10, "inputTokens": 190, "outputTokens": written},
        )
        (row,) = advance(plan, [], PRICES, Facts(task=World().task_facts)).rows
        assert row.gated != fits
        assert fits or row.reason == "a request takes 210 tokens (190 prompt + 20 answer) and small reads 200"


@pytest.mark.parametrize(
    ("memory", "guess", "known"), [("2Gi", True, True), ("3Gi", False, True), ("5Gi", False, False)]
)
def test_a_guess_from_the_number_of_parameters_rejects_only_what_is_surely_too_much(
    memory: str, guess: bool, known: bool
) -> None:
    """A quarter of a billion parameters take 4.2 GiB to train, give or take; with the shape, without the give."""
    shape = model("m", parameters=250_000_000, layers=12, hiddenSize=1024, intermediateSize=4096, vocabularySize=32_000)
    for one, rejected in ((shape | {"facts": {"parameters": 250_000_000}}, guess), (shape, known)):
        plan = small(
            models=[one],
            strategies=[{"name": "full", "type": "FullFineTuning"}],
            accelerators=[{"name": "t4", "memory": memory}],
        )
        rows = advance(plan, [], make_prices(t4="0.5"), Facts(task=World().task_facts)).rows
        assert rows and all(r.gated == rejected for r in rows)
        assert all(r.memory_bytes / 2**30 == pytest.approx(4.2, abs=0.05) for r in rows)


def test_more_memory_elsewhere_is_used() -> None:
    plan = small(
        models=[model("large", parameters=3_000_000_000)],
        strategies=[{"name": "lora", "type": "LoRA"}],
        accelerators=[{"name": "tiny", "memory": "4Gi"}, {"name": "h100"}],
    )
    step = advance(plan, [], make_prices(tiny="0.1", h100="4"), Facts(task=World().task_facts))
    assert {r.spec.accelerator for r in step.start} == {"h100"}


def test_unknown_sizes_are_measured_not_assumed() -> None:
    nameless = {k: v for k, v in model("nameless").items() if k != "facts"}
    run = drive(small(models=[nameless]), make_prices(), World(seed=3))
    assert run.last.finished and run.last.status.recommendation is not None


def test_why_sizes_are_uncertain_is_said_of_every_candidate_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "heliograph", "vocab_size": 32000}')
    header = b'{"weight": {"dtype": "BF16", "shape": [1000, 1000], "data_offsets": [0, 2000000]}}'
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    local = {"name": "sunny", "source": {"local": {"path": str(tmp_path)}}}
    plan = tiny(models=[local, model("small")])
    reading = model_reading(plan.spec.models[0], SourceRoots())
    assert reading.facts is not None and reading.facts.parameters == 1_000_000 and reading.problem is not None
    step = advance(plan, [], PRICES, Facts({"sunny": reading.facts}, uncertain={"sunny": reading.problem}))
    said = "Its sizes are uncertain, since model_type 'heliograph' is not known"
    assert step.rows and all((said in row.reason) == (row.model == "sunny") for row in step.rows)
    full = tiny(models=[local], accelerators=[{"name": "cpu", "memory": "1Gi"}])
    huge = {"sunny": reading.facts.model_copy(update={"parameters": 10**12})}
    gated = advance(full, [], PRICES, Facts(huge, uncertain={"sunny": reading.problem})).rows
    assert all(row.gated and " GiB " in row.reason and said in row.reason for row in gated)
    rivals = [a for a in step.status.alternatives if a.model == "sunny"]
    assert rivals and all(said in a.rejected_because for a in rivals)


def test_a_probe_tells_why_sizes_are_uncertain_where_the_shell_cannot_read_them() -> None:
    nameless = {k: v for k, v in model("nameless").items() if k != "facts"}
    plan = tiny(models=[nameless])
    first = advance(plan, [], PRICES).start[0]
    record, _ = World(seed=3).run(first, Decimal("0.00001"))
    assert record.report is not None
    told = {"model_facts": {"parameters": 10**9}, "model_problem": "model_type 'heliograph' is not known"}
    step = advance(plan, [replace(record, report=record.report.model_copy(update=told))], PRICES)
    assert all("since model_type 'heliograph' is not known" in row.reason for row in step.rows)
