"""The report of a plan in a cluster: from its object, its price list, its results and its probes to the page.

Read-only and for two callers: the commands that ask about a plan of a cluster, with a person's rights, and the operator, which
serves pages where its chart says so.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from html import escape

from orrery.api.base import API_VERSION
from orrery.api.load import ManifestError, parse_model
from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.status import PlanStatus
from orrery.controller import results
from orrery.controller.jobs import JobSettings
from orrery.controller.operator import Operator
from orrery.controller.records import Probe, model_key, parse, records, task_key
from orrery.controller.server import CONFIG_MAPS, PLANS, PRICE_LISTS, PROBES, NotFound, Object, Server, ServerError
from orrery.local.publish import ordered, parse_row
from orrery.planning.types import ProbeRecord, ResultRow
from orrery.report.page import render

#: Pages that are kept until their plan changes: drawing a large one takes a second of the operator's CPU.
_KEPT = 8
Answer = tuple[int, str, bytes]


class NoReport(Exception):  # noqa: N818  # reads as what happened
    """There is nothing to show yet, as a sentence."""


Answered = tuple[AdaptationPlan, PriceList, PlanStatus, list[ResultRow], list[ProbeRecord]]


def answered(
    plan: Object, prices: Object, config_map: Object, probes: Iterable[Probe], image: JobSettings | None = None
) -> Answered:
    """What a plan's objects say, best candidate first. Raises ManifestError for objects that are no such."""
    status = PlanStatus.model_validate(plan.get("status") or {})
    bare = {k: v for k, v in plan.items() if k != "status"}
    asked = parse_model(AdaptationPlan, {**bare, "apiVersion": API_VERSION, "kind": "AdaptationPlan"})
    priced = parse_model(PriceList, {**prices, "apiVersion": API_VERSION, "kind": "PriceList"})
    settings = image or JobSettings(image=(status.inputs.image if status.inputs is not None else None) or "unknown")
    rows = [parse_row(line) for line in results.read_lines(config_map)]
    return asked, priced, status, ordered(rows), records(probes, asked, settings)


def page_of(
    plan: Object, prices: Object, config_map: Object, probes: Iterable[Probe], image: JobSettings | None = None
) -> str:
    """The page of a plan's objects. Raises ManifestError for objects that are no such."""
    return render(*answered(plan, prices, config_map, probes, image), datetime.now(UTC).date())


def read(server: Server, namespace: str, name: str) -> Answered:
    """A plan's answer with all it rests on, read from the API server; raises ServerError or ``NoReport``."""
    try:
        plan = server.get(PLANS, namespace, name)
    except NotFound:
        raise NoReport(f"there is no AdaptationPlan '{name}' in the namespace '{namespace}'") from None
    probes = [probe for body in server.list(PROBES, namespace) if (probe := parse(body)) is not None]
    return answered(plan, *_around(server, plan), _of_plan(plan, probes))


def _around(server: Server, plan: Object) -> tuple[Object, Object]:
    """A plan's price list and results."""
    meta, reference = plan["metadata"], (plan.get("status") or {}).get("resultsRef")
    if not reference:
        raise NoReport(f"the plan '{meta['name']}' has no answer yet")
    listed = plan["spec"]["pricing"]["priceListRef"]["name"]
    try:
        return server.get(PRICE_LISTS, None, listed), server.get(CONFIG_MAPS, meta["namespace"], reference)
    except NotFound as error:
        raise NoReport(f"the PriceList '{listed}' or the results '{reference}' are gone: {error}") from None


def _of_plan(plan: Object, probes: Iterable[Probe]) -> list[Probe]:
    bare = {k: v for k, v in plan.items() if k != "status"}
    asked = parse_model(AdaptationPlan, {**bare, "apiVersion": API_VERSION, "kind": "AdaptationPlan"})
    task, models = task_key(asked.spec.task), {model_key(m) for m in asked.spec.models}
    mine = asked.metadata.name
    return [p for p in probes if (p.task_key == task and p.model_key in models) or mine in p.payers]


class Pages:
    """What the operator serves: ``/reports`` lists the plans, ``/reports/NAMESPACE/NAME`` shows one. Safe for many threads."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], tuple[str, bytes]] = OrderedDict()

    def __call__(self, path: str) -> Answer | None:
        """Status, content type and body; None for a path that is not ours."""
        parts = [part for part in path.split("/") if part]
        if parts[:1] != ["reports"] or len(parts) not in (1, 3):
            return None
        try:
            if len(parts) == 1:
                return 200, "text/html; charset=utf-8", self._index()
            return 200, "text/html; charset=utf-8", self._page(parts[1], parts[2])
        except NoReport as problem:
            return 404, "text/plain; charset=utf-8", f"{problem}\n".encode()
        except (ServerError, ManifestError, ValueError, KeyError) as problem:
            return 503, "text/plain; charset=utf-8", f"the report cannot be drawn now: {problem}\n".encode()

    def _index(self) -> bytes:
        keys = sorted(self._operator.world.keys(PLANS))
        items = "".join(
            f'<li><a href="/reports/{escape(space)}/{escape(name)}">{escape(space)}/{escape(name)}</a></li>'
            for space, name in keys
        )
        body = f"<h1>Adaptation plans</h1><ul>{items}</ul>" if keys else "<h1>No adaptation plans</h1>"
        return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Orrery</title>{body}</html>'.encode()

    def _page(self, namespace: str, name: str) -> bytes:
        world, server = self._operator.world, self._operator.server
        plan = world.get(PLANS, (namespace, name))
        if plan is None:
            raise NoReport(f"there is no AdaptationPlan '{name[:253]}' in the namespace '{namespace[:63]}'")
        version = str(plan["metadata"].get("resourceVersion"))
        with self._lock:  # one at a time: a page is memory and CPU that plans need more
            known = self._kept.get((namespace, name))
            if known is not None and known[0] == version:
                self._kept.move_to_end((namespace, name))
                return known[1]
            probes = [p for key in world.keys(PROBES) if key[0] == namespace and (p := world.probe(key)) is not None]
            jobs = self._operator.reconciler.probing.jobs
            page = page_of(plan, *_around(server, plan), _of_plan(plan, probes), jobs).encode()
            self._kept[namespace, name] = version, page
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return page


def pages(operator: Operator) -> Callable[[str], Answer | None]:
    """What answers the operator's port for reports."""
    return Pages(operator)
