"""Series come with a plan, hold no candidate, and go with the plan."""

from __future__ import annotations

from decimal import Decimal

import pytest
from prometheus_client import generate_latest

from orrery.api.pricelist import PriceList
from orrery.api.status import Condition, PlanStatus, Progress, Spend
from orrery.controller.attempts import Accelerated
from orrery.controller.metrics import Metrics
from orrery.controller.settings import Settings, SettingsError
from tests.unit.controller import factory
from tests.unit.controller.bodies import START, attempt

pytestmark = pytest.mark.unit

KEY = ("team-a", "support")
STATUS = PlanStatus(
    conditions=[Condition(type="Ready", status="True", reason="AnswerSettled")],
    progress=Progress(succeeded=3),
    spend=Spend(currency="USD", cost=Decimal("1.5"), reserved=Decimal(0), accelerator_seconds=Decimal(9)),
)


def scraped(metrics: Metrics) -> dict[str, float]:
    lines = generate_latest(metrics.registry).decode().splitlines()
    return {k: float(v) for k, _, v in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_a_plan_has_series_until_it_goes() -> None:
    metrics = Metrics()
    metrics.plan(factory.plan(), STATUS)
    metrics.plan(factory.plan(), STATUS.model_copy(update={"prediction_error": Decimal("-0.02")}))
    found = scraped(metrics)
    mine = 'namespace="team-a",plan="support"'
    assert found[f"orrery_plan_spent{{{mine}}}"] == 1.5 and found[f"orrery_plan_budget{{{mine}}}"] == 5
    assert found[f'orrery_plan_condition{{{mine},status="True",type="Ready"}}'] == 1
    assert found[f'orrery_plan_condition{{{mine},status="False",type="Ready"}}'] == 0
    assert found[f"orrery_plan_prediction_error{{{mine}}}"] == -0.02
    metrics.stalled(KEY, PlanStatus(conditions=[Condition(type="Stalled", status="True", reason="InvalidPlan")]))
    assert scraped(metrics)[f'orrery_plan_condition{{{mine},status="True",type="Stalled"}}'] == 1
    metrics.forget(KEY)
    assert not [name for name in scraped(metrics) if "support" in name]


def test_a_series_that_no_longer_applies_goes_while_the_plan_stays() -> None:
    metrics = Metrics()
    metrics.plan(factory.plan(), STATUS)
    metrics.plan(factory.plan(), STATUS.model_copy(update={"progress": None}))
    assert not [name for name in scraped(metrics) if name.startswith("orrery_plan_probes")]


def test_an_attempt_is_counted_in_base_units() -> None:
    metrics = Metrics()
    done = attempt(phase="Failed", cost="0.25", seconds="80", startedAt=START, reason="OutOfMemory")
    metrics.attempt_ended("team-a", Accelerated("h100", 4, "Spot"), done)
    found = scraped(metrics)
    assert found['orrery_probe_attempts_total{namespace="team-a",outcome="OutOfMemory"}'] == 1
    assert found['orrery_probe_cost_total{namespace="team-a"}'] == 0.25
    assert found['orrery_probe_accelerator_seconds_total{accelerator="h100",capacity_type="Spot"}'] == 80
    assert found["orrery_probe_seconds_sum"] == 20 and found["orrery_probe_queue_wait_seconds_sum"] == 5


def test_a_plan_is_counted_for_its_team_and_an_hour_has_a_price() -> None:
    metrics, plan = Metrics(), factory.plan()
    metrics.plan(plan, STATUS)
    assert scraped(metrics)['orrery_plan_labels{label_team="",namespace="team-a",plan="support"}'] == 1
    labelled = plan.metadata.model_copy(update={"labels": {"team": "search"}})
    metrics.plan(plan.model_copy(update={"metadata": labelled}), STATUS)
    mine = [name for name in scraped(metrics) if name.startswith("orrery_plan_labels")]
    assert mine == ['orrery_plan_labels{label_team="search",namespace="team-a",plan="support"}']
    prices = PriceList.model_validate(
        {
            "metadata": {"name": "cloud"},
            "spec": {
                "currency": "USD",
                "source": "made up for tests",
                "date": "2026-01-01",
                "accelerators": [{"name": "l4", "capacityType": "Spot", "pricePerHour": "0.7"}],
            },
        }
    )
    metrics.prices(prices)
    hour = 'orrery_accelerator_hourly_cost{accelerator="l4",capacity_type="Spot",price_list="cloud"}'
    assert scraped(metrics)[hour] == 0.7
    # a price that the list no longer has, and a list that is no more, are not told
    other = prices.spec.accelerators[0].model_copy(update={"name": "h100"})
    metrics.prices(prices.model_copy(update={"spec": prices.spec.model_copy(update={"accelerators": [other]})}))
    assert [n for n in scraped(metrics) if n.startswith("orrery_accelerator_hourly_cost")] == [
        hour.replace("l4", "h100")
    ]
    metrics.forget_prices("cloud")
    assert not [n for n in scraped(metrics) if n.startswith("orrery_accelerator_hourly_cost")]


def test_a_watch_that_has_shown_nothing_is_silent_since_the_start() -> None:
    now = [100.0]
    metrics = Metrics(clock=lambda: now[0])
    now[0] += 60
    metrics.watched("jobs")
    now[0] += 5
    metrics.refresh(0, True, {})
    ages = {n: v for n, v in scraped(metrics).items() if n.startswith("orrery_watch_last_event_age_seconds")}
    assert len(ages) == 6 and ages['orrery_watch_last_event_age_seconds{resource="jobs"}'] == 5
    assert ages['orrery_watch_last_event_age_seconds{resource="pods"}'] == 65


def test_what_a_watch_owes_is_told_by_resource() -> None:
    metrics = Metrics()
    metrics.refresh(2, True, {"jobs": 41.0, "adaptationplans": 0.0})
    found = scraped(metrics)
    assert found['orrery_watch_overdue_seconds{resource="jobs"}'] == 41
    assert found['orrery_watch_overdue_seconds{resource="adaptationplans"}'] == 0


def test_no_label_can_be_multiplied_by_a_plan() -> None:
    metrics = Metrics()
    allowed = {"namespace", "plan", "type", "status", "bound", "state", "outcome", "accelerator", "capacity_type"}
    allowed |= {"reason", "verb", "resource", "code", "le", "version", "label_team", "price_list"}
    for family in metrics.registry.collect():
        for sample in family.samples:
            assert set(sample.labels) <= allowed


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({}, "ORRERY_PROBE_IMAGE is not set: write the image that probes run, such as REGISTRY/orrery-probe:TAG"),
        ({"ORRERY_LEASE_SECONDS": "2"}, "ORRERY_LEASE_SECONDS is '2': write a whole number from 3 to 3600"),
        ({"ORRERY_HEALTH_PORT": "-1"}, "ORRERY_HEALTH_PORT is '-1': write a whole number from 0 to 65535"),
        ({"ORRERY_WORKERS": "1.5"}, "ORRERY_WORKERS is '1.5': write a whole number from 1 to 256"),
    ],
)
def test_a_setting_that_cannot_be_used_says_what_to_write(env: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError, match="^" + sentence.replace(".", r"\.") + "$"):
        Settings.from_environment(({"ORRERY_PROBE_IMAGE": "r/p:1"} if env else {}) | env)


def test_settings_have_defaults() -> None:
    found = Settings.from_environment({"ORRERY_PROBE_IMAGE": "r/p:1", "ORRERY_NAMESPACE": "", "ORRERY_WORKERS": ""})
    assert found.namespace is None and found.workers == 8 and found.jobs.image == "r/p:1"
