"""What is shown: the answer as a table, progress as lines and as a live view."""

import io
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console

from orrery.api.status import (
    Alternative,
    ConfigurationValue,
    Confirmation,
    ConfirmationCost,
    CostForecast,
    PlanStatus,
    Progress,
    QualityForecast,
    Recommendation,
    Spend,
)
from orrery.cli.explain import match
from orrery.cli.progress import Lines, View
from orrery.cli.screen import answer, listing
from orrery.local.attempts import AttemptRecord, timestamp
from orrery.local.store import AttemptFolder
from orrery.planning.types import ResultRow, Step
from tests.unit.local import planner

pytestmark = pytest.mark.unit

CHOICE = {
    "model": "minilm",
    "strategy": "lora",
    "configuration": [ConfigurationValue(name="rank", value="8")],
    "accelerator": "cpu",
    "quality": QualityForecast(predicted="0.931", lower="0.902", upper="0.955"),
    "cost": CostForecast(
        adaptation="0.002",
        serving="1.6",
        total="1.602",
        lower="1.1",
        upper="2.4",
        adaptation_flops="3000000000000",
        serving_flops="1200000000000000",
        accelerator_hours="32.5",
        cost_of_pass="0.00000472",
    ),
    "latency_milliseconds": "20.7",
    "measured": False,
}
STATUS = PlanStatus(
    phase="Answered",
    progress=Progress(planned=3, succeeded=2, failed=1, reused=1, estimated_remaining_seconds=75),
    spend=Spend(
        currency="USD",
        cost="0.0031",
        reserved="0.004",
        accelerator_seconds="213",
        flops="45000000000000",
        exhaustive_cost="0.2",
        exhaustive_accelerator_seconds="14400",
        exhaustive_flops="2900000000000000",
        saved_percent="98.45",
    ),
    recommendation=Recommendation(**CHOICE, confidence="0.97", reason="Forecast", message="cheapest that is [good]"),
    alternatives=[Alternative(**CHOICE | {"model": "smollm2"}, rejected_because="costs 27.10 USD more " * 12)],
)


def shown(renderable, width=100):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    return console.file.getvalue()


def test_the_answer_tells_choice_quality_cost_spend_and_why_the_rival_lost():
    text = " ".join(shown(answer("shop/tickets", STATUS, 365, "0.02 USD", "")).split())
    for part in (
        "shop/tickets Answered",
        "minilm / lora on cpu",
        "rank 8",
        "0.931 (0.902 to 0.955), forecast, meets the objective with 97%",
        "1.60 USD (1.10 to 2.40): 0.002 to adapt, 1.60 to serve 365 days",
        "32.5 accelerator-hours, 1.2e+15 FLOPs: 3.0e+12 FLOPs to adapt, 1.2e+15 FLOPs to serve",
        "4.7e-06 USD per right answer",
        "20.7 ms a request",
        "213 s, 4.5e+13 FLOPs",
        "cost USD hours FLOPs configuration",
        "1.60 32.5 1.2e+15 rank 8",
        "cheapest that is [good]",  # what is in brackets is text, not markup
        "0.0031 USD of 0.02 USD",
        "measuring every candidate in full: 0.2 USD, 14,400 s, 2.9e+15 FLOPs (98.5 % saved)",
        "2 succeeded, 1 failed, 1 reused",
        "smollm2 / lora",
        "costs 27.10 USD more",
    ):
        assert part in text, part


def test_a_confirmed_answer_says_what_came_of_it_and_what_it_cost():
    cost = ConfirmationCost(predicted="0.02", actual="0.017", actual_accelerator_seconds="61")
    told = Confirmation(
        spent="0.017", reserved="0", reason="WithinInterval", message="measured 0.93 in full", cost=cost
    )
    text = " ".join(shown(answer("a/b", STATUS.model_copy(update={"confirmation": told}), 365, "1 USD", "")).split())
    assert "confirmed measured 0.93 in full; it cost 0.017 USD and 61 s, 0.02 USD were predicted" in text


def test_an_infeasible_answer_says_why():
    status = STATUS.model_copy(update={"phase": "Infeasible", "recommendation": None, "alternatives": []})
    assert "no candidate reaches 0.99" in shown(answer("a/b", status, 365, "1 USD", "no candidate reaches 0.99"))


def test_long_reasons_stay_readable_on_a_narrow_terminal():
    text = shown(answer("shop/tickets", STATUS, 365, "0.02 USD", ""), width=60)
    assert max(len(line) for line in text.splitlines()) <= 60
    assert len(text.splitlines()) < 60


def test_a_listing_aligns_its_columns():
    lines = shown(listing(["name", "cost"], [(["a", "10.00"], "why"), (["long name", "2.00"], "")], right=["cost"]))
    assert [line.rstrip() for line in lines.splitlines()] == [
        "name        cost",
        "a          10.00",
        "    why",
        "long name   2.00",
    ]


def test_what_does_not_fit_beside_stands_below_by_its_name():
    columns = ["model / strategy", "quality", "cost USD", "hours", "configuration"]
    rows = [
        (["small / in-context", "0.630 (0.175 to 0.932)", "0.71 (0.19 to 2.66)", "17.3", "shots 8"], "meets 0.9"),
        (["large / lora", "-", "12.10 (0.86 to 31.1)", "79", "epochs 3"], ""),
    ]
    table = listing(columns, rows, right=["cost USD", "hours"])

    def lines(width):
        return [line.rstrip() for line in shown(table, width=width).splitlines()]

    assert lines(60) == [
        "model / strategy    quality  cost USD",
        "small / in-context  0.630        0.71",
        "    quality 0.175 to 0.932  cost USD 0.19 to 2.66  hours",
        "    17.3  configuration shots 8",
        "    meets 0.9",
        "large / lora        -           12.10",
        "    cost USD 0.86 to 31.1  hours 79  configuration epochs 3",
    ]
    assert lines(72) == [
        "model / strategy    quality                             cost USD  hours",
        "small / in-context  0.630 (0.175 to 0.932)   0.71 (0.19 to 2.66)   17.3",
        "    configuration shots 8",
        "    meets 0.9",
        "large / lora        -                       12.10 (0.86 to 31.1)     79",
        "    configuration epochs 3",
    ]
    assert len(lines(120)) == 4, "where there is room, everything stands beside"


def drive(view_class, **options):
    console = Console(file=io.StringIO(), width=120, **options)
    plan = planner.plan("good")
    request = planner.advance(plan, [], planner.prices(), None).start[0]
    record = AttemptRecord(
        number=1,
        phase="Reserved",
        reserved="0.02",
        price_per_hour="3.6",
        accelerators=1,
        deadline_seconds=20,
        started_at=timestamp(0),
    )
    attempt = AttemptFolder(request.name, Path("attempt-1"), record)
    done = record.model_copy(update={"phase": "Succeeded", "reason": "Completed", "cost": Decimal("0.001")})
    with view_class(console, Decimal("0.05"), "USD") as view:
        view.reused(3)
        view.started(request, attempt)
        view.step(Step((), False, "Probing", "", STATUS, ()), [None])
        view.waiting()
        view.ended(AttemptFolder(request.name, Path("attempt-1"), done))
        view.waiting()
    return console.file.getvalue(), request.name


def test_progress_is_plain_lines_where_there_is_no_terminal():
    text, name = drive(Lines, color_system=None)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert [line.split()[1] for line in lines] == ["reused", "started", "leading", "ended"]
    assert f"{name}: m0, 2 ZeroShot; because" in lines[1]
    assert "0.931 (0.902 to 0.955) for 1.60 USD; spent 0.0031 of 0.05" in lines[2]
    assert "Completed, 0.0 s, 0.001 USD" in lines[3]


def test_progress_on_a_terminal_shows_spend_against_the_budget():
    text, name = drive(View, force_terminal=True, color_system="standard")
    assert "0.0031 spent, 0.004 reserved of 0.05 USD" in text
    assert "of at most 0:20" in text and name in text and "about 1:15 left" in text


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("m/lora(rank=4)@cpu", ["m/lora(rank=4)@cpu"]),
        ("lora rank=4", ["m/lora(rank=4)@cpu"]),  # not qlora, though it holds the word
        ("lora", ["m/lora(rank=4)@cpu", "m/lora(rank=8)@cpu"]),
        ("QLORA", ["m/qlora(rank=4)@cpu"]),
        ("qlo", ["m/qlora(rank=4)@cpu"]),
        ("prayer", []),
    ],
)
def test_a_candidate_is_found_by_its_words(words, found):
    rows = [
        ResultRow(name, "m", "s", "T", (), "cpu", None, None, None, None, None, None, None, None, False, 0.0, "", "")
        for name in ("m/lora(rank=4)@cpu", "m/lora(rank=8)@cpu", "m/qlora(rank=4)@cpu")
    ]
    assert [row.candidate for row in match(rows, words)] == found
