"""The mix of accelerators for an answer: what the objective's latency rules out, and what whole replicas cost."""

from __future__ import annotations

import io
import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.cli.explain import explain
from orrery.cli.fleet import as_document, as_table
from orrery.cli.options import Output
from orrery.local.publish import publish, write_inputs
from orrery.planning.advance import advance
from orrery.planning.fleet import SHARES, Fleet, fleet_of_answer
from orrery.planning.types import ProbeRecord
from orrery.report.page import render
from tests.unit.planning.world import World, make_plan, make_prices, model

pytestmark = pytest.mark.unit

TEXTS = {
    "dataset": {"source": {"builtin": {"name": "intents"}}},
    "type": "Generation",
    "maxOutputTokens": 400,
    "metric": {"name": "ExactMatch"},
}
PRICES = make_prices(l4="0.5", h100="4")


def plan(limit: int | None, requests: int = 20_000_000, **changes: Any) -> AdaptationPlan:
    objective: dict[str, Any] = {"goal": "MaximizeQuality", "confidence": "0.5"}
    sizes = {"parameters": 8_000_000_000, "hiddenSize": 4096, "layers": 32, "heads": 32, "kvHeads": 8}
    return make_plan(
        **{
            "task": TEXTS,
            "models": [model("large", **sizes)],
            "strategies": [{"name": "zero-shot", "type": "ZeroShot"}],
            "workload": {"requestsPerDay": requests, "batchSize": 8},
            "objective": objective | ({} if limit is None else {"maxLatencyMilliseconds": limit}),
            "accelerators": [{"name": "l4"}, {"name": "h100"}],
        }
        | changes
    )


def measured(asked: AdaptationPlan) -> list[ProbeRecord]:
    """A zero-shot probe that wrote answers of very different lengths."""
    request = advance(asked, [], PRICES).start[0]
    record, _ = World(seed=3).run(request, Decimal("0.0001"))
    assert record.report is not None
    lengths = {"output_tokens": 80, "output_tokens_error": 5, "output_token_quantiles": [5, 20, 50, 100, 300]}
    trials = [t.model_copy(update=lengths) for t in record.report.trials]
    return [ProbeRecord(**{**vars(record), "report": record.report.model_copy(update={"trials": trials})})]


def mixed(limit: int | None, **changes: Any) -> Fleet | None:
    return fleet_of_answer(plan(limit, **changes), PRICES, measured(plan(limit, **changes)))


def test_shares_are_those_of_the_answers_around_each_quantile() -> None:
    assert SHARES.tolist() == pytest.approx([0.15, 0.225, 0.25, 0.225, 0.15])


def test_long_answers_go_where_they_are_in_time_and_short_ones_where_they_are_cheap() -> None:
    anywhere = mixed(10**8)
    assert anywhere is not None and anywhere.mix is not None and all(one is not None for one in anywhere.alone)
    cheapest = min(one.price_per_hour for one in anywhere.alone if one is not None)
    assert anywhere.mix.price_per_hour < cheapest, "four small cards carry what would need half a large one"
    assert anywhere.mix.replicas == (4, 18) and cheapest == 76  # docs/concepts/costs.md tells of it
    assert anywhere.answer_tokens == (5, 20, 50, 100, 300) and anywhere.latency.shape == (5, 2)
    assert (np.diff(anywhere.latency, axis=0) > 0).all() and (anywhere.latency[:, 0] > anywhere.latency[:, 1]).all()
    between = int(1000 * (anywhere.latency[4, 1] + min(anywhere.latency[4, 0], 3 * anywhere.latency[4, 1])) / 2)
    tight = mixed(between)
    assert tight is not None and tight.mix is not None
    assert tight.alone[0] is None, "the small card alone is too slow for the longest answers"
    assert tight.mix.shares[4].tolist() == pytest.approx([0, 1])
    late = tight.latency > between / 1000
    assert (tight.mix.shares[late] < 1e-9).all() and tight.mix.price_per_hour >= anywhere.mix.price_per_hour
    busy = (tight.shares[:, None] * tight.mix.shares * tight.seconds).sum(0) * 20_000_000 / 86400
    assert (busy <= 0.7 * np.array(tight.mix.replicas) + 1e-6).all()
    document = as_document(tight, plan(between), "USD")
    assert sum(k["servedShare"] for k in document["accelerators"]) == pytest.approx(1)


def test_what_nothing_answers_in_time_is_a_sentence() -> None:
    asked = plan(10**8)
    records = measured(asked)
    found = fleet_of_answer(asked, PRICES, records)
    assert found is not None
    limit = int(1000 * found.latency[4].min()) - 1
    strict = plan(limit)
    none = fleet_of_answer(strict, PRICES, records)
    assert none is not None and none.mix is None and none.alone == (None, None)
    assert none.problem is not None and none.problem.startswith("bucket 5 takes ") and "the limit is" in none.problem
    assert as_document(none, strict, "USD")["costPerHour"] is None
    assert none.sentence(strict.spec, "USD") == f"no mix: {none.problem}"
    screen = Console(width=200, file=io.StringIO())
    screen.print(as_table(none, strict, "USD"))
    assert "too slow" in screen.file.getvalue() and f"no mix: {none.problem}" in screen.file.getvalue()


def test_explain_shows_the_mix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = plan(12_000)
    write_inputs(tmp_path, asked, PRICES)
    publish(tmp_path, asked, advance(asked, [], PRICES), 0.0)
    assert explain(tmp_path, None, None, Output.JSON) == 0
    told = json.loads(capsys.readouterr().out)["fleet"]
    assert [k["accelerator"] for k in told["accelerators"]] == ["l4", "h100"] and told["costPerHour"] > 0
    explain(tmp_path, None, None, Output.TABLE)
    assert "cheapest mix of accelerators" in capsys.readouterr().out


def test_the_report_shows_the_mix_and_nothing_where_there_is_no_choice() -> None:
    for asked, shown in ((plan(12_000), True), (plan(12_000, accelerators=[{"name": "l4"}]), False)):
        records = measured(asked)
        step = advance(asked, records, PRICES)
        page = render(asked, PRICES, step.status, step.rows, records, date(2026, 3, 1))
        assert ("<h3>Accelerators to serve the answer on</h3>" in page) is shown
        assert ("of standing by, answer within 12000 ms at the peak." in page) is shown


def test_there_is_nothing_to_mix_without_a_limit_or_with_one_kind() -> None:
    assert mixed(None) is None
    assert mixed(10**8, accelerators=[{"name": "l4"}]) is None
    tokens = {"name": "large", "inputPerMillion": "0.5", "outputPerMillion": "1.5"}
    listed = PriceList.model_validate(PRICES.to_wire() | {"spec": PRICES.spec.to_wire() | {"hostedModels": [tokens]}})
    hosted = plan(10**8, models=[model("large") | {"hostedAs": "large"}])
    assert fleet_of_answer(hosted, listed, []) is None, "a host's machines are not ours to mix"
    still = mixed(10**8, requests=0)
    assert still is not None and still.mix is not None and still.mix.replicas == (0, 0)
