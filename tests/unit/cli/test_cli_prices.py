"""Prices on the command line: what they say, which stored answers they change, and what is refused with which sentence."""

import copy
import json
from pathlib import Path

import genai_prices
import pytest
import yaml

from orrery.api.load import load, parse_model
from orrery.api.machines import Accelerator
from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.cli import main
from orrery.cli.prices import today
from orrery.costs.accelerators import unknown_note
from orrery.local.publish import publish, write_inputs
from orrery.planning.advance import advance, assess
from orrery.planning.repricing import NeedsAdvance, reprice
from orrery.planning.types import Facts

pytestmark = pytest.mark.unit

PLAN = {
    "apiVersion": "orrery.dev/v1alpha1",
    "kind": "AdaptationPlan",
    "metadata": {"name": "intents"},
    "spec": {
        "task": {"dataset": {"source": {"builtin": {"name": "bigbench/intent_recognition"}}}},
        "models": [
            {"name": "smollm2", "source": {"builtin": {"name": "smollm2-135m-instruct"}}},
            {"name": "minilm", "source": {"builtin": {"name": "all-minilm-l6-v2"}}, "architecture": "Encoder"},
        ],
        "strategies": [{"name": "zero-shot", "type": "ZeroShot"}, {"name": "lora", "type": "LoRA"}],
        "workload": {"requestsPerDay": 1000},
        "objective": {"goal": "Weighted", "pointValue": "1", "confidence": "0.5"},
        "budget": {"maxProbeCost": "1"},
        "pricing": {"priceListRef": {"name": "list"}},
        "accelerators": [{"name": "cpu"}, {"name": "l4", "resource": "nvidia.com/gpu"}],
    },
}
PRICES = {
    "apiVersion": "orrery.dev/v1alpha1",
    "kind": "PriceList",
    "metadata": {"name": "list"},
    "spec": {
        "currency": "USD",
        "source": "test",
        "date": "2026-01-01",
        "accelerators": [{"name": "cpu", "pricePerHour": "0.05"}, {"name": "l4", "pricePerHour": "0.7"}],
    },
}


def _with(document, path, value):
    changed = copy.deepcopy(document)
    *parents, last = path
    target = changed
    for name in parents:
        target = target[name]
    target[last] = value
    return changed


def _files(folder, plan=PLAN, **lists):
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    for name, document in lists.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(document))


def _run(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["orrery", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main.run()
    told = capsys.readouterr()
    return ended.value.code or 0, told.out, told.err


def test_show_says_source_date_and_age(tmp_path, monkeypatch, capsys):
    _files(tmp_path, prices=_with(PRICES, ("spec", "date"), "2020-01-31"))
    code, out, err = _run(monkeypatch, capsys, "prices", "show", tmp_path / "prices.yaml")
    assert code == 0
    assert "source  test" in out and "2020-01-31" in out and "0.7" in out
    assert "days old (2020-01-31): read them again" in err


def test_a_file_without_a_price_list_is_said(tmp_path, monkeypatch, capsys):
    _files(tmp_path)
    code, _, err = _run(monkeypatch, capsys, "prices", "show", tmp_path / "plan.yaml")
    assert code == 2 and "PriceList is missing: give a file that holds one" in err


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A plan's state as it is stored, decided on nothing measured."""
    folder = tmp_path_factory.mktemp("state")
    plan, prices = parse_model(AdaptationPlan, PLAN), parse_model(PriceList, PRICES)
    step = advance(plan, [], prices, Facts())
    write_inputs(folder, plan, prices)
    publish(folder, plan, step, 0.0)
    return folder, plan, prices, step


@pytest.mark.parametrize("cpu", ["0.0005", "0.05", "0.2", "40"])
def test_stored_rows_decide_as_the_whole_machinery_does(stored, cpu):
    _, plan, old, step = stored
    new = parse_model(PriceList, _with(PRICES, ("spec", "accelerators", 0, "pricePerHour"), cpu))
    found, situation = reprice(plan, step.rows, old, new), assess(plan, [], new)
    chosen = situation.decision.chosen
    assert found.after == (None if chosen is None else situation.space.label(chosen))
    assert found.cost_after == pytest.approx(float(situation.columns.total.median()[chosen]), rel=1e-6)


def test_a_price_changes_an_answer_and_the_exit_code_says_so(stored, tmp_path, monkeypatch, capsys):
    folder, _, _, _ = stored
    cheap = _with(PRICES, ("spec", "accelerators", 0, "pricePerHour"), "0.00000005")
    _files(tmp_path, old=PRICES, new=cheap)
    same = _run(monkeypatch, capsys, "prices", "diff", tmp_path / "old.yaml", tmp_path / "old.yaml", folder)
    assert (
        same[0] == 0
        and "0 prices differ\n  the two lists say the same" in same[1]
        and "0 of 1 answers change" in same[1]
    )
    code, out, _ = _run(
        monkeypatch, capsys, "prices", "diff", tmp_path / "old.yaml", tmp_path / "new.yaml", folder, "-o", "json"
    )
    document = json.loads(out)
    assert code == 1
    assert document["prices"] == [
        {"name": "cpu OnDemand", "per": "hour", "old": "0.05", "new": "0.00000005", "percent": pytest.approx(-99.9999)}
    ]
    assert document["answers"][0]["changed"] and document["answers"][0]["after"] != document["answers"][0]["before"]


def test_a_limit_on_latency_needs_the_measurements(stored):
    _, plan, old, step = stored
    objective = plan.spec.objective.model_copy(update={"max_latency_milliseconds": 1000})
    limited = plan.model_copy(update={"spec": plan.spec.model_copy(update={"objective": objective})})
    with pytest.raises(NeedsAdvance, match="maxLatencyMilliseconds"):
        reprice(limited, step.rows, old, old)


@pytest.mark.parametrize(
    ("plan", "prices", "sentence"),
    [
        (
            PLAN,
            _with(PRICES, ("spec", "accelerators"), [{"name": "cpu", "pricePerHour": "0.05"}]),
            "spec.accelerators[l4] has no OnDemand price in the PriceList 'list' (it lists cpu (OnDemand))",
        ),
        (
            _with(PLAN, ("spec", "workload"), {"requestsPerDay": 10, "horizonDays": -3}),
            PRICES,
            "spec.workload.horizonDays is -3: write",
        ),
        (
            PLAN,
            _with(PRICES, ("spec", "currency"), "XQZ"),
            "spec.currency is 'XQZ', which is no currency: write an ISO 4217 code",
        ),
        (
            _with(PLAN, ("spec", "models", 0, "hostedAs"), "gpt"),
            PRICES,
            "spec.models[smollm2].hostedAs is 'gpt', which the PriceList 'list' has no token prices of",
        ),
    ],
)
def test_bad_input_is_a_sentence(tmp_path, monkeypatch, capsys, plan, prices, sentence):
    _files(tmp_path, plan, prices=prices)
    code, _, err = _run(monkeypatch, capsys, "estimate", tmp_path / "plan.yaml", "--prices", tmp_path / "prices.yaml")
    assert code == 2
    assert sentence in " ".join(err.split())


def test_no_traffic_is_answered_and_said(tmp_path, monkeypatch, capsys):
    _files(tmp_path, _with(PLAN, ("spec", "workload"), {"requestsPerDay": 0}), prices=PRICES)
    code, _, err = _run(monkeypatch, capsys, "estimate", tmp_path / "plan.yaml", "--prices", tmp_path / "prices.yaml")
    assert code == 0
    assert "spec.workload.requestsPerDay is 0: only adaptation is paid for" in " ".join(err.split())


def test_hosted_prices_come_with_source_and_date_and_join_a_list(tmp_path, monkeypatch, capsys):
    code, out, _ = _run(monkeypatch, capsys, "prices", "hosted", "gpt-4o-mini", "groq:llama-3.1-8b-instant")
    found = parse_model(PriceList, yaml.safe_load(out))
    assert code == 0 and found.spec.currency == "USD" and found.spec.date <= today()
    assert found.spec.source.startswith("genai-prices ") and "https://" in found.spec.source
    cheap, fast = found.spec.hosted_models
    assert (cheap.name, fast.name) == ("gpt-4o-mini", "llama-3.1-8b-instant")
    assert 0 < cheap.cached_input_per_million < cheap.input_per_million < cheap.output_per_million
    asked = genai_prices.calc_price(genai_prices.Usage(input_tokens=10**6, output_tokens=10**6), "gpt-4o-mini")
    assert cheap.input_per_million + cheap.output_per_million == asked.total_price
    _files(tmp_path, prices=PRICES)
    code, out, _ = _run(monkeypatch, capsys, "prices", "hosted", "gpt-4o-mini", "--add-to", tmp_path / "prices.yaml")
    both = parse_model(PriceList, yaml.safe_load(out))
    assert code == 0 and [a.name for a in both.spec.accelerators] == [a["name"] for a in PRICES["spec"]["accelerators"]]
    assert "gpt-4o-mini" in [m.name for m in both.spec.hosted_models]
    assert both.spec.date <= parse_model(PriceList, PRICES).spec.date and "genai-prices" in both.spec.source


def test_prices_that_rise_with_the_prompt_are_those_of_the_first_step(monkeypatch, capsys):
    _, out, _ = _run(monkeypatch, capsys, "prices", "hosted", "claude-sonnet-4-5")
    (price,) = parse_model(PriceList, yaml.safe_load(out)).spec.hosted_models
    asked = genai_prices.calc_price(genai_prices.Usage(input_tokens=1000, output_tokens=1000), "claude-sonnet-4-5")
    assert (price.input_per_million + price.output_per_million) / 1000 == asked.total_price


def test_a_model_that_nobody_lists_and_a_list_in_other_money_are_sentences(tmp_path, monkeypatch, capsys):
    code, out, err = _run(monkeypatch, capsys, "prices", "hosted", "claud-sonnet-4-5")
    assert (code, out) == (2, "") and "did you mean" in err and "claude-sonnet-4-5" in err
    code, out, err = _run(monkeypatch, capsys, "prices", "hosted", "zzz-unheard-of")
    assert code == 2 and out == "" and "'zzz-unheard-of' is no model that genai-prices lists" in err
    _files(tmp_path, prices=_with(PRICES, ("spec", "currency"), "EUR"))
    code, _, err = _run(monkeypatch, capsys, "prices", "hosted", "gpt-4o-mini", "--add-to", tmp_path / "prices.yaml")
    assert code == 2 and "is in EUR and token prices are listed in USD" in err


def test_a_budget_of_the_namespace_is_said_to_hold_elsewhere(tmp_path, monkeypatch, capsys):
    _files(tmp_path, PLAN, prices=PRICES)
    for namespace in ("default", "team-b"):
        budget = {"currency": "USD", "maxProbeCost": "1"}
        made = {"apiVersion": "orrery.dev/v1alpha1", "kind": "AdaptationBudget", "spec": budget}
        (tmp_path / f"{namespace}.yaml").write_text(
            json.dumps(made | {"metadata": {"name": f"month-{namespace}", "namespace": namespace}})
        )
    files = [tmp_path / name for name in ("plan.yaml", "default.yaml", "team-b.yaml")]
    code, _, err = _run(monkeypatch, capsys, "estimate", *files, "--prices", tmp_path / "prices.yaml")
    assert code == 0
    assert "the AdaptationBudget 'month-default' holds in the cluster that it is applied to" in " ".join(err.split())
    assert "month-team-b" not in err


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[3] / "examples/prices").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_example_lists_are_dated_name_their_source_and_use_names_that_plans_use(path):
    (found,) = load([path]).price_lists
    assert found.spec.date <= today() and any(c.isdigit() for c in found.spec.source)
    assert not any(unknown_note(Accelerator(name=a.name)) for a in found.spec.accelerators)
