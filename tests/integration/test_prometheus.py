"""The chart's rules and dashboard before a real Prometheus: promtool's unit tests, and a scrape of the real operator."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config

from tests.cluster import Cluster
from tests.integration.operators import Namespace, Operator, chart_account, plan
from tests.integration.prometheus import Prometheus, program
from tests.integration.test_budgets import budget
from tests.integration.test_confirm import CONFIRM, LORA
from tests.unit.charts.rendering import CHART, objects, of_kind
from tests.unit.docs.markdown import Block, blocks, pages
from tests.waiting import until

pytestmark = pytest.mark.integration


def rules(**values: Any) -> dict[str, Any]:
    (rule,) = of_kind(objects({"metrics": {"prometheusRule": {"enabled": True, **values}}}), "PrometheusRule")
    return dict(rule["spec"])


def panels_of_the_dashboard() -> list[dict[str, Any]]:
    found = json.loads((CHART / "dashboards" / "orrery.json").read_text())
    return [panel for panel in found["panels"] if panel["type"] != "row"]


def test_promtool_agrees_with_every_rule(tmp_path: Path) -> None:
    (tmp_path / "rules.rendered.yaml").write_text(yaml.safe_dump(rules()))
    shutil.copy(Path(__file__).with_name("rules.yaml"), tmp_path)
    for arguments in (["check", "rules", "rules.rendered.yaml"], ["test", "rules", "rules.yaml"]):
        done = subprocess.run(
            [program("promtool"), *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    tested = {
        entry["alertname"]
        for test in yaml.safe_load((tmp_path / "rules.yaml").read_text())["tests"]
        for entry in test.get("alert_rule_test", [])
        if entry["exp_alerts"]
    }
    every = {rule["alert"] for group in rules()["groups"] for rule in group["rules"] if "alert" in rule}
    assert tested == every, "an alert that was never seen to fire"


def test_thresholds_are_the_charts_values() -> None:
    text = yaml.safe_dump(
        rules(forecastError=0.25, failureShare=0.75, budgetShare=0.5, stalledFor="2h", waitingFor="3h")
    )
    changed = ("prediction_error) > 0.25", "ratio1h > 0.75", "budget > 0.5", "for: 2h", "for: 3h")
    assert all(part in text for part in changed)


def paid(space: Namespace) -> dict[str, float]:
    """What each plan has cost, by its status."""
    found = {}
    for name in ("answered", "confirmed", "failing"):
        status = space.plan(name)["status"]
        confirmation = status.get("confirmation", {}).get("spent", "0")
        found[name] = float(Decimal(status["spend"]["cost"]) + Decimal(confirmation))
    return found


def recorded(prometheus: Prometheus, space: Namespace) -> dict[str, float]:
    """The same, as the rules have it."""
    found = prometheus.ask(f'namespace_plan:orrery_plan_spent:max{{namespace="{space.namespace}"}} > 0')
    return {series["metric"]["plan"]: round(float(series["value"][1]), 9) for series in found}


@pytest.fixture(scope="module")
def scraped(simulating: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, Namespace]]:
    """Prometheus before an operator with a plan of the team search, one that was confirmed, one whose probes fail, one stalled."""
    folder, account = tmp_path_factory.mktemp("prometheus"), chart_account(simulating)
    with config.new_client_from_config(str(simulating.kubeconfig)) as api_client:
        space = Namespace(api_client, f"prometheus-{time.time_ns() % 10**8}")
        core = client.CoreV1Api(api_client)
        core.create_namespace({"metadata": {"name": space.namespace}})
        with (
            Operator(account, folder, ORRERY_OWN_NAMESPACE="orrery-system") as operator,
            Prometheus(folder, f"127.0.0.1:{operator.metrics_port}", rules()) as prometheus,
        ):
            space.prices("monitored")
            budget(space, maxProbeCost="100")
            wanted = plan("answered", prices="monitored")
            wanted["metadata"]["labels"] = {"team": "search"}
            space.apply(wanted)
            # confirmed in full, so that there is an error of a forecast
            space.apply(plan("confirmed", prices="monitored", models=("ok",), strategies=[LORA], confirm=CONFIRM))
            space.apply(plan("failing", prices="monitored", models=("crash",)))
            space.apply(plan("stalled", prices="nowhere"))
            for name in ("answered", "confirmed", "failing", "stalled"):
                space.settled(name, 120)
            until(
                lambda: recorded(prometheus, space) == paid(space), 30, what="what the last attempt brought is recorded"
            )
            time.sleep(2)  # and so is what follows from it
            yield prometheus, space
        core.delete_namespace(space.namespace)


def filled_in(expression: str) -> str:
    """As Grafana fills a panel's variables in."""
    for variable, value in (("$namespace", ".*"), ("$__range", "10m"), ("$__rate_interval", "1m")):
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    return expression


def test_every_panel_has_data(scraped: tuple[Prometheus, Namespace]) -> None:
    prometheus, _ = scraped
    asked = {target["expr"]: panel["title"] for panel in panels_of_the_dashboard() for target in panel["targets"]}

    def shown(expression: str) -> bool:
        found = prometheus.ask(filled_in(expression))
        return any(math.isfinite(float(series["value"][1])) for series in found)

    for expression, title in asked.items():
        until(lambda e=expression: shown(e), 5, what=f"the panel {title!r} shows something: {expression}")


def test_promtool_finds_nothing_in_what_is_scraped(scraped: tuple[Prometheus, Namespace]) -> None:
    """Names, units, types and help, as the linter of Prometheus has them; of a real operator with every kind of plan."""
    with urllib.request.urlopen(f"http://{scraped[0].target}/metrics", timeout=10) as answer:
        page = answer.read()
    done = subprocess.run([program("promtool"), "check", "metrics"], input=page, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
    names = {line.split(b"{")[0].split(b" ")[0] for line in page.splitlines() if not line.startswith(b"#")}
    assert len(names) > 30 and all(name.startswith(b"orrery_") for name in names)
    assert not any(name.endswith(b"_created") for name in names), "a second series beside every counter"


QUERIES = [block for page in pages() for block in blocks(page) if block.language == "promql"]


@pytest.mark.parametrize("block", QUERIES, ids=lambda block: block.where)
def test_queries_of_the_documentation_are_answered(scraped: tuple[Prometheus, Namespace], block: Block) -> None:
    assert len(QUERIES) >= 2 and scraped[0].ask(block.code.replace("[31d]", "[10m]"))


def test_every_rule_is_evaluated_without_an_error(scraped: tuple[Prometheus, Namespace]) -> None:
    groups = scraped[0].get("rules")["groups"]
    health = {rule["name"]: (rule["health"], rule.get("lastError", "")) for g in groups for rule in g["rules"]}
    assert len(health) >= 16 and {state for state, _ in health.values()} == {"ok"}, health


def test_money_in_prometheus_is_the_money_of_the_plans(scraped: tuple[Prometheus, Namespace]) -> None:
    prometheus, space = scraped
    expression = (
        "sum by (label_team) (sum_over_time(namespace_label_team_year_month:orrery_plan_spent:increase"
        f'{{namespace="{space.namespace}"}}[10m]))'
    )

    cost = paid(space)
    found = {series["metric"].get("label_team", ""): float(series["value"][1]) for series in prometheus.ask(expression)}
    assert found == pytest.approx({"search": cost["answered"], "": cost["failing"] + cost["confirmed"]}, rel=1e-9)
    assert found["search"] > 0 and found[""] > 0
    (now,) = prometheus.ask(
        f'namespace_label_team_year_month:orrery_plan_spent:increase{{label_team="search",namespace="{space.namespace}"}}'
    )
    assert (now["metric"]["year"], now["metric"]["month"]) == (
        time.strftime("%Y", time.gmtime()),
        str(time.gmtime().tm_mon),
    )


def test_the_stalled_plan_and_the_failing_probes_are_pending_alerts(scraped: tuple[Prometheus, Namespace]) -> None:
    prometheus, space = scraped

    def alerts() -> set[tuple[str, str]]:
        found = [a["labels"] for a in prometheus.get("alerts")["alerts"]]
        return {(a["alertname"], a.get("plan", "")) for a in found if a.get("namespace") == space.namespace}

    until(lambda: ("OrreryPlanStalled", "stalled") in alerts(), 20, what=f"{alerts()}")
    assert ("OrreryBudgetOverspent", "") not in alerts()
