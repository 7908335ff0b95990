"""What really happened, seen by somebody who trusts neither the operator nor its watches.

Watches Jobs and Pods straight at the API server, lists all probes again and again (one list is one consistent moment), and reads the audit
log at the end. From that it says what was lost, started twice or overspent.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from orrery.api.probe import AdaptationProbe, Report
from orrery.controller.jobs import ATTEMPT_LABEL, PROBE_LABEL
from orrery.planning.reports import judge
from tests.cluster.rest import ApiError, Json, Rest

PROBES = "/apis/orrery.dev/v1alpha1/adaptationprobes"
PLANS = "/apis/orrery.dev/v1alpha1/adaptationplans"
Key = tuple[str, str]


@dataclass
class Seen:
    """A Pod of a probe: its attempt, its container's times and what it said."""

    namespace: str
    probe: str
    attempt: int
    started: str | None = None
    finished: str | None = None
    message: str | None = None
    said_at: float = 0.0
    gone_at: float | None = None


@dataclass
class Recorder:
    """Start it before the first plan, stop it after the last answer, then ask."""

    rest: Rest
    sample_seconds: float = 0.4
    samples: int = 0
    overspent: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)  #: measurements that a status held once and no longer
    job_uids: dict[Key, set[str]] = field(default_factory=lambda: defaultdict(set))
    pods: dict[str, Seen] = field(default_factory=dict)
    probes: dict[Key, Json] = field(default_factory=dict)
    budgets: dict[Key, Decimal] = field(default_factory=dict)
    destroyed: set[Key] = field(default_factory=set)  #: Jobs whose reports an interruption took away
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _held: dict[str, dict[str, str | None]] = field(default_factory=dict)  #: probe uid: its trials' scores

    def start(self) -> Recorder:
        """Watch and sample, in threads."""
        selector = "?labelSelector=app.kubernetes.io%2Fmanaged-by%3Dorrery"
        loops = [
            lambda: self._follow("/apis/batch/v1/jobs" + selector, self._job),
            lambda: self._follow("/api/v1/pods" + selector, self._pod),
            self._sample_forever,
        ]
        for loop in loops:
            thread = threading.Thread(target=loop, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def stop(self) -> None:
        """One last sample, then no more."""
        self._stop.set()
        self._threads[-1].join(15)
        self.sample()

    # ---- watching

    def _follow(self, path: str, handle: Any) -> None:
        version = ""
        while not self._stop.is_set():
            try:
                if not version:
                    listed = self.rest.get(path)
                    version = listed["metadata"]["resourceVersion"]
                    for item in listed["items"]:
                        handle("ADDED", item)
                for kind, item in self.rest.watch(path, version, seconds=20):
                    version = item["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK":
                        handle(kind, item)
                    if self._stop.is_set():
                        return
            except ApiError as error:
                version = "" if error.status == 410 else version
                self._stop.wait(0.1)
            except (OSError, http.client.HTTPException, ValueError):
                self._stop.wait(0.1)

    def _job(self, kind: str, job: Json) -> None:
        meta = job["metadata"]
        self.job_uids[meta["namespace"], meta["name"]].add(meta["uid"])

    def _pod(self, kind: str, pod: Json) -> None:
        meta = pod["metadata"]
        labels = meta.get("labels") or {}
        if PROBE_LABEL not in labels:
            return
        seen = self.pods.setdefault(
            meta["uid"], Seen(meta["namespace"], labels[PROBE_LABEL], int(labels[ATTEMPT_LABEL]))
        )
        for status in (pod.get("status") or {}).get("containerStatuses") or []:
            ended = status["state"].get("terminated") or {}
            running = status["state"].get("running") or {}
            seen.started = ended.get("startedAt") or running.get("startedAt") or seen.started
            seen.finished = ended.get("finishedAt") or seen.finished
            if ended.get("message") and seen.message is None:
                seen.message, seen.said_at = ended["message"], time.monotonic()
        if kind == "DELETED":
            seen.gone_at = time.time()

    # ---- sampling

    def _sample_forever(self) -> None:
        while not self._stop.wait(self.sample_seconds):
            try:
                self.sample()
            except (OSError, http.client.HTTPException, ApiError, ValueError):
                continue  # the server is away: nothing can be spent now either

    def sample(self) -> None:
        """One consistent look at all money: cost of what has ended, worst case of what has not, by plan."""
        items = self.rest.get(PROBES, timeout=30)["items"]
        held: dict[Key, Decimal] = defaultdict(Decimal)
        for probe in items:
            namespace, uid = probe["metadata"]["namespace"], probe["metadata"]["uid"]
            status = probe.get("status") or {}
            for attempt in status.get("attempts") or []:
                held[namespace, attempt["paidBy"]] += Decimal(attempt.get("cost") or attempt["reserved"])
            scores = {t["name"]: t.get("score") for t in (status.get("report") or {}).get("trials") or []}
            before = self._held.setdefault(uid, {})
            self.forgotten += [
                f"{namespace}/{probe['metadata']['name']}: {name} was {score} and is {scores.get(name)}"
                for name, score in before.items()
                if scores.get(name) != score
            ]
            self._held[uid] = scores
            self.probes[namespace, probe["metadata"]["name"]] = probe
        for key, amount in held.items():
            if key in self.budgets and amount > self.budgets[key]:
                self.overspent.append(f"{'/'.join(key)}: {amount} of {self.budgets[key]}")
        self.samples += 1

    # ---- judging, at the end

    def lost(self) -> list[str]:
        """Complete, valid reports that a Pod's status showed and the probe's status does not hold.

        Left out: reports of Jobs whose Pod, Job or node an interruption destroyed before the probe's status had them.
        """
        missing = list(self.forgotten)
        for seen in list(self.pods.values()):
            where = seen.namespace, seen.probe
            report = self._report(seen)
            if report is None or (seen.namespace, f"{seen.probe}-{seen.attempt}") in self.destroyed:
                continue
            status = (self.probes.get(where) or {}).get("status") or {}
            held = {t["name"] for t in (status.get("report") or {}).get("trials") or []}
            if gone := sorted({t.name for t in report.trials} - held):
                missing.append(f"{'/'.join(where)}-{seen.attempt}: {', '.join(gone)} of a complete report")
        return missing

    def holds(self, namespace: str, job: str) -> bool:
        """Whether what a Job's Pods reported is in its probe's status already, as the last sample saw it."""
        probe, _, attempt = job.rpartition("-")
        status = (self.probes.get((namespace, probe)) or {}).get("status") or {}
        ended = {a["number"] for a in status.get("attempts") or [] if a["phase"] in ("Succeeded", "Failed")}
        return int(attempt) in ended

    def reports(self) -> int:
        """Complete, valid reports that Pods wrote."""
        return sum(self._report(seen) is not None for seen in list(self.pods.values()))

    def _report(self, seen: Seen) -> Report | None:
        probe = self.probes.get((seen.namespace, seen.probe))
        if seen.message is None or probe is None:
            return None
        body = {**probe, "apiVersion": "orrery.dev/v1alpha1", "kind": "AdaptationProbe"}
        judged = judge(seen.message.encode(), AdaptationProbe.model_validate(body).spec, None, None).report
        return judged if judged is not None and judged.complete and not judged.error else None

    def duplicated(self, audit_log: Path | None) -> list[str]:
        """Jobs that were made more than once under one attempt's name: by the watch's uids, and by the audit log."""
        found = {f"{'/'.join(key)} has the uids {sorted(uids)}" for key, uids in self.job_uids.items() if len(uids) > 1}
        if audit_log is not None:
            made: Counter[str] = Counter()
            for line in audit_log.read_text(errors="replace").splitlines():
                event = _event(line)
                ref = event.get("objectRef") or {}
                code = (event.get("responseStatus") or {}).get("code")
                if event.get("verb") == "create" and ref.get("resource") == "jobs" and code == 201:
                    made[f"{ref.get('namespace')}/{ref.get('name')}"] += 1
            found |= {f"{name} was created {n} times" for name, n in made.items() if n > 1}
        return sorted(found)

    def really_overspent(self, price_per_hour: Decimal) -> list[str]:
        """Plans whose Pods ran for more money than the budget, by the nodes' own times; whoever was charged for it."""
        payer = {
            (key[0], attempt["jobName"]): attempt["paidBy"]
            for key, probe in self.probes.items()
            for attempt in (probe.get("status") or {}).get("attempts") or []
        }
        ran: dict[Key, Decimal] = defaultdict(Decimal)
        for seen in list(self.pods.values()):
            plan = payer.get((seen.namespace, f"{seen.probe}-{seen.attempt}"))
            if plan is None or seen.started is None:
                continue
            ended = _moment(seen.finished) if seen.finished else seen.gone_at
            if ended is not None:
                seconds = Decimal(repr(max(0.0, ended - _moment(seen.started))))
                ran[seen.namespace, plan] += price_per_hour * seconds / 3600
        return [
            f"{'/'.join(key)}: its Pods ran for {amount:.4f} of {self.budgets[key]}"
            for key, amount in ran.items()
            if key in self.budgets and amount > self.budgets[key]
        ]


def _event(line: str) -> Json:
    try:
        event = json.loads(line)
    except ValueError:
        return {}  # the line that a killed server did not finish
    return event if isinstance(event, dict) else {}


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()
