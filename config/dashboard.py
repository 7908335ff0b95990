"""Writes the chart's Grafana dashboard: ``python config/dashboard.py`` (``--check`` writes nothing and fails if it is stale).

Made with Grafana's own library, so that what it writes is a dashboard of the schema that Grafana 11 and newer read. Every
expression is asked of a real Prometheus by ``tests/integration/test_prometheus.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import GraphDrawStyle, StackingMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableOption,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PATH = Path(__file__).parent.parent / "charts" / "orrery" / "dashboards" / "orrery.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
MINE = '{namespace=~"$namespace"}'
#: Panels a row of the screen: widths of 24 units.
WIDTH, HEIGHT = 8, 8


def _query(expr: str, legend: str = "", *, instant: bool = False, as_table: bool = False) -> Dataquery:
    query = Dataquery().expr(expr).legend_format(legend or "__auto")
    query = query.instant() if instant else query.range()
    return query.format(PromQueryFormat.TABLE) if as_table else query


def _dressed(panel: Any, title: str, text: str, queries: Sequence[Dataquery], unit: str) -> Any:
    panel = panel.title(title).description(text).datasource(SOURCE).span(WIDTH).height(HEIGHT)
    if unit:
        panel = panel.unit(unit)
    for number, query in enumerate(queries):
        panel = panel.with_target(query.ref_id(chr(ord("A") + number)))
    return panel


def _lines(title: str, text: str, *queries: Dataquery, unit: str = "", stacked: bool = False) -> timeseries.Panel:
    panel = timeseries.Panel().min(0)
    if stacked:
        panel = panel.draw_style(GraphDrawStyle.BARS).fill_opacity(80)
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    made: timeseries.Panel = _dressed(panel, title, text, queries, unit)
    return made


def _number(title: str, text: str, query: Dataquery, unit: str = "") -> stat.Panel:
    made: stat.Panel = _dressed(stat.Panel(), title, text, [query], unit)
    return made


def _table(title: str, text: str, *queries: Dataquery, unit: str = "") -> table.Panel:
    made: table.Panel = _dressed(table.Panel(), title, text, queries, unit)
    return made


def _share() -> bargauge.Panel:
    steps = [
        Threshold(value=None, color="green"),
        Threshold(value=0.9, color="orange"),
        Threshold(value=1, color="red"),
    ]
    return bargauge.Panel().min(0).max(1).thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))


def _money() -> list[Any]:
    month = "namespace_label_team_year_month:orrery_plan_spent:increase"
    steps = [
        Threshold(value=None, color="green"),
        Threshold(value=0.9, color="orange"),
        Threshold(value=1, color="red"),
    ]
    share = bargauge.Panel().min(0).max(1)
    share = share.thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    plans = "max by (namespace, plan)"
    return [
        _table(
            "Cost by namespace, team and month",
            "What probing cost in the time that is shown, in the price lists' currency; the team is the plan's label `team`.",
            _query(
                f"sum by (namespace, label_team, year, month) (sum_over_time({month}{MINE}[$__range]))",
                instant=True,
                as_table=True,
            ),
        ),
        _lines(
            "Spending by team",
            "Money an hour.",
            _query(f"sum by (label_team) (sum_over_time({month}{MINE}[1h]))", "{{label_team}}"),
            stacked=True,
        ),
        _dressed(
            _share(),
            "Share of the budget spent or set aside",
            "It cannot pass 1.",
            [
                _query(
                    f"{plans} (orrery_plan_spent{MINE} + orrery_plan_reserved{MINE}) / {plans} (orrery_plan_budget{MINE} > 0)",
                    "{{namespace}}/{{plan}}",
                    instant=True,
                )
            ],
            "percentunit",
        ),
        _lines(
            "Accelerators in use",
            "Mean number that worked on probes.",
            _query(
                "sum by (accelerator, capacity_type) (rate(orrery_probe_accelerator_seconds_total[$__rate_interval]))",
                "{{accelerator}} {{capacity_type}}",
            ),
        ),
        _table(
            "Price of an hour",
            "As the price lists in use say it; compare with OpenCost's node_gpu_hourly_cost.",
            _query(
                "max by (price_list, accelerator, capacity_type) (orrery_accelerator_hourly_cost)",
                instant=True,
                as_table=True,
            ),
        ),
        _dressed(
            _share(),
            "Share of a namespace's month",
            "Spent or set aside of each AdaptationBudget; at 1 its plans wait.",
            [
                _query(
                    'sum by (namespace, budget) (orrery_namespace_budget{namespace=~"$namespace",amount=~"spent|reserved"})'
                    ' / sum by (namespace, budget) (orrery_namespace_budget{namespace=~"$namespace",amount="limit"} > 0)',
                    "{{namespace}}/{{budget}}",
                    instant=True,
                )
            ],
            "percentunit",
        ),
    ]


def _plans() -> list[Any]:
    states = 'type=~"Ready|Reconciling|Stalled|Feasible",status="True"'
    return [
        _lines(
            "Plans by condition",
            "Reconciling probes, Ready has an answer, Stalled waits for a person.",
            _query(f'sum by (type) (orrery_plan_condition{{namespace=~"$namespace",{states}}})', "{{type}}"),
        ),
        _lines(
            "Probes by state",
            "Of all plans.",
            _query(f"sum by (state) (orrery_plan_probes{MINE})", "{{state}}"),
        ),
        _table(
            "Recommendations: quality",
            "Forecast with its 90 % interval, in the metric's unit.",
            _query(
                f"max by (namespace, plan, bound) (orrery_plan_predicted_quality{MINE})", instant=True, as_table=True
            ),
        ),
        _table(
            "Recommendations: cost",
            "To adapt and to serve over the horizon, with its 90 % interval.",
            _query(f"max by (namespace, plan, bound) (orrery_plan_predicted_cost{MINE})", instant=True, as_table=True),
        ),
        _lines(
            "Forecast error",
            "Measured less forecast quality, of recommendations that were measured in full later.",
            _query(f"max by (namespace, plan) (orrery_plan_prediction_error{MINE})", "{{namespace}}/{{plan}}"),
        ),
        _lines(
            "Forecast error, mean size",
            "The mean distance between forecast and measurement.",
            _query(f"avg(abs(orrery_plan_prediction_error{MINE}))", "mean"),
        ),
    ]


def _probes() -> list[Any]:
    ended = "namespace_outcome:orrery_probe_attempts:increase"
    return [
        _lines(
            "Attempts by outcome",
            "That ended within an hour.",
            _query(f"sum by (outcome) (sum_over_time({ended}{MINE}[1h]))", "{{outcome}}"),
            stacked=True,
        ),
        _lines(
            "Share of attempts that failed",
            "Within an hour; out of memory is an answer, a disruption is not the probe's failure.",
            _query(f"namespace:orrery_probe_failures:ratio1h{MINE}", "{{namespace}}"),
            unit="percentunit",
        ),
        _lines(
            "Time of an attempt",
            "Wall time, half and 95 % of the attempts.",
            *(
                _query(f"histogram_quantile({q}, sum by (le) (rate(orrery_probe_seconds_bucket[1h])))", f"{q:.0%}")
                for q in (0.5, 0.95)
            ),
            unit="s",
        ),
        _lines(
            "Wait for a place",
            "From the reservation to the container's start.",
            *(
                _query(
                    f"histogram_quantile({q}, sum by (le) (rate(orrery_probe_queue_wait_seconds_bucket[1h])))",
                    f"{q:.0%}",
                )
                for q in (0.5, 0.95)
            ),
            unit="s",
        ),
    ]


def _operator() -> list[Any]:
    per = "[$__rate_interval]"
    return [
        _lines(
            "From wake to status, 99 %",
            "How long a change waits for its answer, probes apart.",
            _query(f"histogram_quantile(0.99, sum by (le) (rate(orrery_wake_to_status_seconds_bucket{per})))", "wake"),
            _query(f"histogram_quantile(0.99, sum by (le) (rate(orrery_reconcile_seconds_bucket{per})))", "one look"),
            unit="s",
        ),
        _lines(
            "Reconcile errors",
            "A second; each is tried again.",
            _query(f"sum(rate(orrery_reconcile_errors_total{per})) or vector(0)", "errors"),
        ),
        _lines(
            "Requests to the API server",
            "A second.",
            _query(f"sum by (verb, code) (rate(orrery_api_requests_total{per}))", "{{verb}} {{code}}"),
        ),
        _lines("Plans that wait", "To be looked at.", _query("sum(orrery_queue_length)", "queue")),
        _lines(
            "What watches owe",
            "Since a list showed a change that the watch has not; above 30 s the watch is dead.",
            _query("max by (resource) (orrery_watch_overdue_seconds)", "{{resource}}"),
            unit="s",
        ),
        _number("Lease held", "1 while an operator may write.", _query("max(orrery_lease_held)", instant=True)),
    ]


def dashboard() -> str:
    """The dashboard as JSON, the same bytes each time."""
    everything = VariableOption(text="All", value="$__all")
    built = (
        Dashboard("Orrery")
        .uid("orrery")
        .description("Money, plans, probes and the operator. Needs the chart's recording rules.")
        .tags(["orrery"])
        .editable()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .refresh("1m")
        .time("now/M", "now")
        .timezone("utc")
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(
            QueryVariable("namespace")
            .label("Namespace")
            .datasource(SOURCE)
            .query("label_values(orrery_plan_budget, namespace)")
            .include_all(True)
            .all_value(".*")
            .multi(True)
            .current(everything)
        )
    )
    for title, panels in (("Money", _money()), ("Plans", _plans()), ("Probes", _probes()), ("Operator", _operator())):
        built = built.with_row(Row(title))
        for panel in panels:
            built = built.with_panel(panel)
    return JSONEncoder(sort_keys=True, indent=1).encode(built.build()) + "\n"


def main(check: bool) -> int:
    """Write, or check, the file."""
    text = dashboard()
    if PATH.exists() and PATH.read_text() == text:
        return 0
    if check:
        sys.stderr.write(f"{PATH} is stale: run `python config/dashboard.py`\n")
        return 1
    PATH.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
