"""The commands as a user and CI see them: standard output, standard error, exit code."""

import json
import shutil
from datetime import date
from pathlib import Path

import pytest
import yaml

from orrery.api import yamltext
from orrery.cli import main

pytestmark = pytest.mark.unit

PRICES = {
    "apiVersion": "orrery.dev/v1alpha1",
    "kind": "PriceList",
    "metadata": {"name": "list"},
    "spec": {
        "currency": "USD",
        "source": "test",
        "date": date.today().isoformat(),
        "accelerators": [{"name": "cpu", "pricePerHour": "0.05"}],
    },
}
PLAN = {
    "apiVersion": "orrery.dev/v1alpha1",
    "kind": "AdaptationPlan",
    "metadata": {"name": "tickets", "namespace": "shop"},
    "spec": {
        "task": {"dataset": {"source": {"local": {"path": "tickets.jsonl"}}}},
        "models": [{"name": "minilm", "source": {"builtin": {"name": "all-minilm-l6-v2"}}, "architecture": "Encoder"}],
        "strategies": [
            {"name": "lora", "type": "LoRA", "grid": [{"name": "rank", "values": [4, 8]}]},
            {"name": "zero-shot", "type": "ZeroShot"},
        ],
        "workload": {"requestsPerDay": 1000},
        "objective": {"goal": "MaximizeQuality"},
        "budget": {"maxProbeCost": "1"},
        "pricing": {"priceListRef": {"name": "list"}},
        "accelerators": [{"name": "cpu"}],
    },
}
ROWS = [
    {"input": f"ticket number {i} about {'money' if i % 2 else 'parcels'}", "target": "ab"[i % 2]} for i in range(40)
]


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with the data, as the working directory."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "tickets.jsonl", ROWS)
    return tmp_path


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def changed(document, path, value):
    """A copy of the manifest with one value replaced, or left out."""
    copy = json.loads(json.dumps(document))
    *way, last = path.split(".")
    at = copy
    for part in way:
        at = at[int(part)] if part.isdigit() else at[part]
    at[int(last) if last.isdigit() else last] = value
    return copy


def write(path, *documents):
    path.write_text("---\n".join(yamltext.write(document) for document in documents))
    return str(path)


def test_a_valid_plan(work, orrery):
    code, out, err = orrery("validate", write(work / "plan.yaml", PLAN, PRICES))
    assert (code, err) == (0, "")
    assert out.startswith("shop/tickets: valid\n") and "2 labels" in out


def test_the_price_list_may_be_another_file(work, orrery):
    plan, prices = write(work / "plan.yaml", PLAN), write(work / "prices.yaml", PRICES)
    assert orrery("validate", plan, prices)[0] == orrery("validate", plan, "--prices", prices)[0] == 0
    code, out, _ = orrery("validate", plan)
    assert code == 0 and "prices and budget were not checked" in out
    code, _, err = orrery("estimate", plan)
    assert code == 2 and "give a file with that PriceList as well" in err


def test_a_budget_beside_the_plan_is_checked_too(work, orrery):
    budget = {
        "apiVersion": "orrery.dev/v1alpha1",
        "kind": "AdaptationBudget",
        "metadata": {"name": "month"},
        "spec": {"currency": "USD", "maxProbeCost": "5"},
    }
    plan = write(work / "plan.yaml", PLAN, PRICES)
    assert orrery("validate", plan, write(work / "budget.yaml", budget))[0] == 0
    code, out, _ = orrery("validate", plan, write(work / "bad.yaml", changed(budget, "spec.currency", "usd")))
    assert code == 2 and "spec.currency is 'usd'" in out
    in_euro = changed(changed(budget, "spec.currency", "EUR"), "metadata", {"name": "month", "namespace": "shop"})
    code, out, _ = orrery("validate", plan, write(work / "euro.yaml", in_euro))
    assert code == 2 and "AdaptationBudget 'month' is EUR, and the plan's price list 'list' is in USD" in out
    code, out, _ = orrery("validate", plan, write(work / "again.yaml", PRICES))
    assert code == 2 and "PriceList.metadata.name is 'list' in 2 documents" in out


def without(key):
    return [{k: v for k, v in row.items() if k != key} for row in ROWS]


BAD = {
    "unknown strategy": ("spec.strategies.0.type", "Prayer", ["spec.strategies[lora].type", "'Prayer'", "LoRA"]),
    "unknown parameter": ("spec.strategies.0.grid.0.name", "luck", ["luck", "rank"]),
    "float for money": ("spec.budget.maxProbeCost", 2.5, ["spec.budget.maxProbeCost", "2.5", "quotes"]),
    "negative money": ("spec.budget.maxProbeCost", "-1", ["spec.budget.maxProbeCost", "-1", "write"]),
    "NaN": ("spec.budget.maxProbeCost", float("nan"), ["spec.budget.maxProbeCost", "nan", "finite"]),
    "NaN as text": ("spec.objective.confidence", "NaN", ["spec.objective.confidence", "NaN", "write"]),
    "budget below the cheapest probe": (
        "spec.budget.maxProbeCost",
        "0.000001",
        ["spec.budget.maxProbeCost", "0.000001", "write at least"],
    ),
    "ten million candidates": (
        "spec.strategies.0.grid",
        [
            {"name": "rank", "values": list(range(1, 65))},
            {"name": "epochs", "values": list(range(1, 65))},
            {"name": "dataPercent", "values": list(range(1, 51))},
            {"name": "learningRate", "values": [f"0.000{i:02d}" for i in range(1, 51)]},
        ],
        ["10,240,0", "candidates"],
    ),
    "path that leaves its volume": (
        "spec.task.dataset.source",
        {"pvc": {"claimName": "data", "path": "../secret"}},
        ["../secret", "leaves its volume"],
    ),
    "missing column": ("spec.task.dataset.columns", {"input": "text"}, ["columns.input", "'text'", "input, target"]),
    "no such file": ("spec.task.dataset.source.local.path", "no.jsonl", ["no.jsonl", "nothing at"]),
    "unlisted accelerator": ("spec.accelerators.0.name", "h100", ["h100", "cpu (OnDemand)"]),
    "unlisted price list": ("spec.pricing.priceListRef.name", "other", ["'other'", "write one of list"]),
    "unknown field": ("spec.budgt", "1", ["budgt"]),
    "unknown builtin data": (
        "spec.task.dataset.source",
        {"builtin": {"name": "bigbench/nothing"}},
        ["bigbench/nothing"],
    ),
    "unknown builtin model": (
        "spec.models.0.source",
        {"builtin": {"name": "gpt-9"}},
        ["spec.models[minilm].source.builtin.name is 'gpt-9'", "write one of smollm2-135m-instruct"],
    ),
    "a model of the other architecture": (
        "spec.models.0.architecture",
        "Causal",
        ["spec.models[minilm].architecture is Causal", "is Encoder: write Encoder"],
    ),
    "a folder without a model": (
        "spec.models.0.source",
        {"local": {"path": "."}},
        ["spec.models[minilm].source.local.path", "no config.json", "write the folder of a model"],
    ),
    "percent for a share": ("spec.objective.minQuality", "90", ["minQuality is '90'", "write a share such as '0.90'"]),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_plans_are_refused_with_field_value_and_mend(work, orrery, what):
    path, value, said = BAD[what]
    code, out, err = orrery("validate", write(work / "plan.yaml", changed(PLAN, path, value), PRICES))
    assert (code, err) == (2, "")
    assert ": invalid" in out and "Traceback" not in out
    text = " ".join(out.split())
    for part in said:
        assert part in text


def test_all_that_is_wrong_with_a_plan_is_told_at_once(work, orrery):
    bad = changed(PLAN, "spec.strategies.0", {"name": "lora", "type": "Lora"})
    bad = changed(bad, "spec.strategies.1", {"name": "pray", "type": "Prayer"})
    models = [{"name": n, "source": {"builtin": {"name": n}}} for n in ("gpt-8", "gpt-9")]
    bad = changed(changed(bad, "spec.models", models), "spec.task.dataset.source", {"builtin": {"name": "bigbench/no"}})
    bad = changed(changed(bad, "spec.accelerators.0.name", "h100"), "spec.probing", {"designer": "Dice"})
    budget = {
        "apiVersion": "orrery.dev/v1alpha1",
        "kind": "AdaptationBudget",
        "metadata": {"name": "month", "namespace": "shop"},
        "spec": {"currency": "EUR", "maxProbeCost": "5"},
    }
    code, out, err = orrery("validate", write(work / "plan.yaml", bad, PRICES, budget), "--output", "json")
    (plan,) = json.loads(out)["plans"]
    assert (code, err) == (2, "")
    places = [sentence.split(" is ")[0].split(":")[0].split(" has ")[0] for sentence in plan["problems"]]
    assert places == [
        "spec.probing.designer",
        "spec.strategies[lora].type",
        "spec.strategies[pray].type",
        "spec.models[gpt-8].source.builtin.name",
        "spec.models[gpt-9].source.builtin.name",
        "spec.task.dataset.source.builtin.name",
        "spec.accelerators[h100]",
        "spec.currency of AdaptationBudget 'month'",
    ]
    for command in ("run", "estimate"):
        code, out, err = orrery(command, work / "plan.yaml")
        assert (code, out) == (2, "")
        told = {
            line.removeprefix("error: ").split(" is ")[0].split(":")[0].split(" has ")[0] for line in err.splitlines()
        }
        assert told == {sentence for sentence in places if "AdaptationBudget" not in sentence}


def test_duplicate_names_are_refused(work, orrery):
    twice = changed(PLAN, "spec.models", [PLAN["spec"]["models"][0]] * 2)
    code, out, _ = orrery("validate", write(work / "plan.yaml", twice, PRICES))
    assert code == 2 and "'minilm'" in out and "own" in out


def test_a_negative_price_is_refused(work, orrery):
    prices = changed(PRICES, "spec.accelerators.0.pricePerHour", "-0.05")
    code, out, _ = orrery("validate", write(work / "plan.yaml", PLAN, prices))
    assert code == 2 and "pricePerHour" in out and "-0.05" in out


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], ["has no rows"]),
        (without("target"), ["columns.target", "'target'"]),
        ([*ROWS[:4], {"input": "odd one", "target": None}], ["row 5", "'target'"]),
    ],
)
def test_bad_data_is_refused(work, orrery, rows, said):
    write_rows(work / "tickets.jsonl", rows)
    code, out, _ = orrery("validate", write(work / "plan.yaml", PLAN, PRICES))
    assert code == 2
    for part in said:
        assert part in " ".join(out.split())


def test_a_label_that_training_never_shows_is_refused(work, orrery):
    folder = work / "data"
    folder.mkdir()
    write_rows(folder / "train.jsonl", ROWS)
    write_rows(folder / "validation.jsonl", [*ROWS[:4], {"input": "a new kind", "target": "unheard-of"}])
    plan = changed(PLAN, "spec.task.dataset.source.local.path", "data")
    code, out, _ = orrery("validate", write(work / "plan.yaml", plan, PRICES))
    assert code == 2 and "unheard-of" in out


def test_local_paths_start_where_the_plan_is(work, orrery):
    (work / "plans").mkdir()
    shutil.move(work / "tickets.jsonl", work / "plans" / "tickets.jsonl")
    plan = write(work / "plans" / "plan.yaml", PLAN)
    for files in ((plan, write(work / "prices.yaml", PRICES)), (work / "prices.yaml", plan)):
        code, out, _ = orrery("validate", *files)
        assert code == 0 and "2 labels" in out
    shutil.move(work / "plans" / "tickets.jsonl", work / "tickets.jsonl")
    code, out, _ = orrery("validate", plan)
    assert code == 2 and f"{work}/plans/tickets.jsonl" in out


def test_one_broken_file_hides_nothing_of_the_others(work, orrery):
    good = write(work / "good.yaml", PLAN, PRICES)
    (work / "broken.yaml").write_text("{")
    code, out, _ = orrery("validate", work / "broken.yaml", good, "--output", "json")
    document = json.loads(out)
    assert code == 2 and not document["valid"]
    assert [bool(plan["problems"]) for plan in document["plans"]] == [True, False]


def test_claims_and_config_maps_are_folders_here(work, orrery):
    shutil.move(work / "tickets.jsonl", work / "elsewhere.jsonl")
    source = {"pvc": {"claimName": "data", "path": "elsewhere.jsonl"}}
    plan = write(work / "plan.yaml", changed(PLAN, "spec.task.dataset.source", source), PRICES)
    code, out, _ = orrery("validate", plan)
    assert code == 0 and "the data was not read" in out  # it is in a cluster, perhaps
    code, out, _ = orrery("validate", plan, "--pvc", f"data={work}")
    assert code == 0 and "2 labels" in out
    code, _, err = orrery("validate", plan, "--pvc", "data")
    assert code == 2 and "write NAME=DIR" in err
    source = {"configMap": {"name": "tickets", "key": "elsewhere.jsonl"}}
    plan = write(work / "plan.yaml", changed(PLAN, "spec.task.dataset.source", source), PRICES)
    assert "2 labels" in orrery("validate", plan, "--configmap", f"tickets={work}")[1]


def test_an_accelerator_that_nobody_knows_is_said(work, orrery):
    prices = changed(PRICES, "spec.accelerators", [{"name": "abacus", "pricePerHour": "1"}])
    for memory, checked in ((None, False), ("16Gi", True)):
        given = {"name": "abacus"} | ({"memory": memory} if memory else {})
        plan = write(work / "plan.yaml", changed(PLAN, "spec.accelerators", [given]), prices)
        code, out, _ = orrery("validate", plan)
        text = " ".join(out.split())
        assert code == 0 and "the accelerator 'abacus' is none of cpu, t4" in text
        assert ("spec.accelerators[abacus].memory says it" in text) != checked


def test_what_was_not_looked_at_is_said(work, orrery, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(work / "hub"))
    source = {"huggingFace": {"repo": "me/small", "revision": "v1"}}
    model = PLAN["spec"]["models"][0]
    unread = {k: v for k, v in model.items() if k != "facts"} | {"source": source}
    code, out, _ = orrery("validate", write(work / "plan.yaml", changed(PLAN, "spec.models", [unread]), PRICES))
    note = f"the model '{model['name']}' was not looked at: me/small at revision 'v1' is not in the hub's cache"
    assert code == 0 and note in out
    stated = unread | {"facts": {"parameters": 10**8}}
    plan = write(work / "plan.yaml", changed(PLAN, "spec.models", [stated]), PRICES)
    assert "not looked at" not in orrery("validate", plan)[1]


def test_estimate_probes_nothing_and_tells_what_it_would(work, orrery):
    plan = write(work / "plan.yaml", PLAN, PRICES)
    before = sorted(work.iterdir())
    code, out, err = orrery("estimate", plan, "--output", "json")
    assert (code, err) == (0, "") and sorted(work.iterdir()) == before
    document = json.loads(out)
    assert document["currency"] == "USD" and float(document["exhaustiveCost"]) > 0
    assert document["exhaustiveAcceleratorSeconds"] > 0 and document["exhaustiveFlops"] > 0
    assert {row["strategy"] for row in document["candidates"]} == {"lora", "zero-shot"}
    first = document["firstProbes"][0]
    assert 0 < float(first["expectedCost"]) <= float(first["reservedCost"]) <= 1
    assert first["trials"] and first["reason"]
    table = orrery("estimate", plan)[1]
    assert "estimate, nothing measured" in table and "exhaustive search" in table
    assert yaml.safe_load(orrery("estimate", plan, "-o", "yaml")[1])["currency"] == "USD"


def test_estimate_says_infeasible_with_exit_code_1(work, orrery):
    plan = changed(PLAN, "spec.accelerators.0.memory", "1Mi")
    code, out, _ = orrery("estimate", write(work / "plan.yaml", plan, PRICES))
    assert code == 1 and "cpu has 0.0 GiB" in out


def test_explain_without_an_answer_says_what_to_do(work, orrery):
    code, _, err = orrery("explain", write(work / "plan.yaml", PLAN, PRICES))
    assert code == 2 and "`orrery run` the plan first" in err


def test_two_plans_cannot_be_run_at_once(work, orrery):
    other = changed(PLAN, "metadata.name", "others")
    code, _, err = orrery("run", write(work / "plan.yaml", PLAN, other, PRICES))
    assert code == 2 and "give exactly one" in err


def test_a_file_that_is_not_there(work, orrery):
    code, _, err = orrery("run", "nowhere.yaml")
    assert code == 2 and "nowhere.yaml" in err and "Traceback" not in err


def test_a_fault_is_a_sentence_and_its_own_exit_code(work, orrery, monkeypatch):
    monkeypatch.setattr("orrery.cli.estimate.known", lambda *_: 1 / 0)
    plan = write(work / "plan.yaml", PLAN, PRICES)
    code, _, err = orrery("estimate", plan)
    assert code == 70 and "ZeroDivisionError" in err and "ORRERY_DEBUG=1" in err and "Traceback" not in err


def test_every_command_has_help(orrery):
    for name in main.COMMANDS:
        code, out, _ = orrery(name, "--help")
        assert code == 0 and "Usage: orrery " + name in out
    code, out, _ = orrery("--version")
    assert code == 0 and out.strip()


def test_crds_print(orrery):
    code, out, _ = orrery("crds")
    assert code == 0
    assert {d["spec"]["names"]["kind"] for d in yaml.safe_load_all(out)} >= {"AdaptationPlan", "PriceList"}


def test_the_example_is_valid_and_wide(orrery):
    example = Path(__file__).resolve().parents[3] / "examples" / "intents" / "plan.yaml"
    assert orrery("validate", example)[0] == 0
    code, out, _ = orrery("estimate", example, "-o", "json")
    rows = json.loads(out)["candidates"]
    assert code == 0 and len(rows) >= 24
    assert {row["type"] for row in rows} == {"ZeroShot", "InContext", "LoRA", "QLoRA", "FullFineTuning"}
    assert {row["model"] for row in rows} == {"smollm2", "minilm"}
