"""The state folder: everything that is known of a plan, so that a run can be killed at any moment and go on.

::

    plan.yaml prices.yaml        as the latest run read them
    status.yaml results.jsonl    the answer so far, and one line a candidate
    lock                         held by the run
    probes/NAME/spec.yaml        what is measured
    probes/NAME/reused.json      measured by another plan, and copied, so that deleting that plan loses nothing
    probes/NAME/attempt-N/       spec.yaml (what was left to do), record.json (cost, phase), report.json, log.txt,
                                 started.json and exit.json (the shepherd's), alive (its lock)

Nothing is remembered elsewhere: each turn of the loop reads this and goes on from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from orrery.api import yamltext
from orrery.api.base import API_VERSION
from orrery.api.models import Model
from orrery.api.probe import REPORT_LIMIT, ProbeSpec, Report, model_identity, probe_name
from orrery.local import files, processes
from orrery.local.attempts import AttemptRecord, Ending, settle
from orrery.local.files import StateError
from orrery.planning.reports import agreed, judge, merge
from orrery.planning.types import ProbeRecord, ProbeRequest, ProbeState

RECORD, REPORT, SPEC, REUSED = "record.json", "report.json", "spec.yaml", "reused.json"


@dataclass(frozen=True)
class AttemptFolder:
    """One attempt on disk."""

    probe: str
    folder: Path
    record: AttemptRecord

    @property
    def in_flight(self) -> bool:
        """Whether its money is still reserved."""
        return not self.record.ended


@dataclass
class Store:
    """Reads and writes one plan's state folder. ``data_digest`` is that of the data as it is now, if it could be read."""

    folder: Path
    data_digest: str | None = None
    _specs: dict[Path, ProbeSpec] = field(default_factory=dict)
    _reports: dict[Path, Report | None] = field(default_factory=dict)

    def probe_folder(self, name: str) -> Path:
        """Where everything about a probe is."""
        return self.folder / "probes" / name

    def probe_names(self) -> list[str]:
        """Probes with a spec, sorted: the same state is always read in the same order."""
        return sorted(path.parent.name for path in self.folder.glob(f"probes/*/{SPEC}"))

    def spec(self, path: Path) -> ProbeSpec:
        """The spec in a manifest file, cached: a spec never changes."""
        if path not in self._specs:
            try:
                manifest = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
                self._specs[path] = ProbeSpec.model_validate(manifest["spec"])
            except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError) as error:
                raise files.unreadable(path, error, f"delete the folder {path.parent}") from None
        return self._specs[path]

    def attempts(self, name: str) -> list[AttemptFolder]:
        """The attempts at a probe, first to last."""
        found = []
        for path in self.probe_folder(name).glob(f"attempt-*/{RECORD}"):
            value = files.read_json(path)
            try:
                record = AttemptRecord.model_validate(value)
            except ValidationError as error:
                raise StateError(
                    f"{path} is not an attempt's record ({error}): delete the folder {path.parent}"
                ) from None
            found.append(AttemptFolder(name, path.parent, record))
        return sorted(found, key=lambda attempt: attempt.record.number)

    def all_attempts(self) -> Iterator[AttemptFolder]:
        """Every attempt of the plan."""
        for name in self.probe_names():
            yield from self.attempts(name)

    # -- writing ------------------------------------------------------------------------------------------------------

    def reserve(
        self, request: ProbeRequest, spec: ProbeSpec, price_per_hour: Decimal, accelerators: int, now: str
    ) -> AttemptFolder:
        """Write down the attempt and the money set aside for it, before anything is started."""
        probe = self.probe_folder(request.name)
        write_spec(probe / SPEC, request.name, request.spec)
        number = 1 + max((int(p.name.partition("-")[2]) for p in probe.glob("attempt-*")), default=0)
        folder = probe / f"attempt-{number}"
        write_spec(folder / SPEC, probe_name(spec), spec)
        record = AttemptRecord(
            number=number,
            phase="Reserved",
            reserved=request.reservation,
            price_per_hour=price_per_hour,
            accelerators=accelerators,
            deadline_seconds=spec.deadline_seconds,
            started_at=now,
        )
        files.write_json(folder / RECORD, record.to_wire())
        return AttemptFolder(request.name, folder, record)

    def settle_ended(self, now: float, started_here: frozenset[Path] = frozenset()) -> list[AttemptFolder]:
        """Close every attempt whose process is gone, whoever started it; gives those that were closed now."""
        closed = []
        for attempt in self.all_attempts():
            if not attempt.in_flight or processes.alive(attempt.folder):
                continue
            ending = read_ending(attempt.folder)
            judgement = judge(
                _read_bytes(attempt.folder / REPORT),
                self.spec(attempt.folder / SPEC),
                self.data_digest,
                ending.seconds,
                self._commit(self.spec(attempt.folder / SPEC).model),
            )
            record = settle(attempt.record, ending, judgement, now)
            if record.phase == "Void" and attempt.folder in started_here:
                # Nobody interrupted us, so the machine cannot start processes: that must not be tried for ever.
                record = record.model_copy(
                    update={"phase": "Failed", "counted": True, "message": "the process did not begin; see its log"}
                )
            files.write_json(attempt.folder / RECORD, record.to_wire())
            closed.append(AttemptFolder(attempt.probe, attempt.folder, record))
        return closed

    def write_reused(self, spec: ProbeSpec, report: Report, origin: str) -> None:
        """Keep another plan's measurement as this plan's own, at no cost."""
        name = probe_name(spec)
        folder = self.probe_folder(name)
        files.write_json(folder / REUSED, {"from": origin, "report": report.to_wire()})
        write_spec(folder / SPEC, name, spec)

    # -- reading ------------------------------------------------------------------------------------------------------

    def records(self) -> list[ProbeRecord]:
        """Every probe as ``advance`` wants it."""
        found = (self._record(name) for name in self.probe_names())
        return [record for record in found if record is not None]

    def _record(self, name: str) -> ProbeRecord | None:
        folder = self.probe_folder(name)
        spec = self.spec(folder / SPEC)
        attempts = self.attempts(name)
        reused = self._reused(folder, spec)
        reports = [reused] if reused else []
        stale = 0
        for attempt in attempts:
            if not attempt.in_flight:
                report, changed = self._report(attempt)
                stale += changed
                if report is not None:
                    reports.append(report)
        if not attempts and reused is None:
            return None
        merged = merge(spec, reports)
        state, latest = self._state(attempts, merged, reused is not None)
        data_changed = stale > 0 and merged is None and state in (ProbeState.FAILED, ProbeState.INTERRUPTED)
        return ProbeRecord(
            name=name,
            spec=spec,
            state=state,
            attempts=sum(a.record.counted for a in attempts) - stale,
            cost=sum((a.record.cost for a in attempts), Decimal(0)),
            reserved=sum((a.record.reserved for a in attempts if a.in_flight), Decimal(0)),
            seconds=float(sum((a.record.seconds for a in attempts), Decimal(0))),
            report=merged,
            reused=reused is not None and not attempts,
            retryable=data_changed or latest is None or latest.retryable,
            reason="DataChanged" if data_changed else (latest.reason or "" if latest else "Reused"),
            message=latest.message if latest else "",
        )

    def _state(
        self, attempts: Sequence[AttemptFolder], merged: Report | None, reused: bool
    ) -> tuple[ProbeState, AttemptRecord | None]:
        if not attempts:
            return ProbeState.SUCCEEDED if reused else ProbeState.RESERVED, None
        latest = attempts[-1]
        if latest.in_flight:
            started = (latest.folder / "started.json").exists()
            return ProbeState.RUNNING if started else ProbeState.RESERVED, latest.record
        # The data may have changed since an attempt succeeded; then its report no longer counts.
        complete = merged is not None and merged.complete and latest.record.phase == "Succeeded"
        ended = ProbeState.FAILED if latest.record.counted else ProbeState.INTERRUPTED
        return ProbeState.SUCCEEDED if complete else ended, latest.record

    def _reused(self, folder: Path, spec: ProbeSpec) -> Report | None:
        value = files.read_json(folder / REUSED)
        if value is None:
            return None
        report = Report.model_validate(value["report"])
        return None if self._of_other_data(report) else report

    def _commit(self, model: Model) -> str | None:
        """The commit of a hub's model that most probes of it loaded; a probe that loaded another is refused."""
        if model.source.hugging_face is None:
            return None
        ours = model_identity(model)
        reports = (r.report for r in self.records() if r.report is not None and model_identity(r.spec.model) == ours)
        return agreed(report.model_commit for report in reports)

    def _of_other_data(self, report: Report) -> bool:
        facts = report.task_facts
        return self.data_digest is not None and facts is not None and facts.digest != self.data_digest

    def _report(self, attempt: AttemptFolder) -> tuple[Report | None, int]:
        """The report of an ended attempt if it counts, and 1 if it does not since the data changed after it was taken."""
        if attempt.record.reason in ("DataMismatch", "RevisionMismatch"):
            return None, 0  # it never was of this data or model: the probe's failure, which counts
        if attempt.folder not in self._reports:
            spec = self.spec(attempt.folder / SPEC)
            seconds = float(attempt.record.seconds) / attempt.record.accelerators
            self._reports[attempt.folder] = judge(_read_bytes(attempt.folder / REPORT), spec, None, seconds).report
        report = self._reports[attempt.folder]
        if report is not None and self._of_other_data(report):
            return None, 1
        return report, 0


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def write_spec(path: Path, name: str, spec: ProbeSpec) -> None:
    """Write an AdaptationProbe manifest; left alone where there is one, since a spec never changes."""
    if not path.exists():
        manifest = {
            "apiVersion": API_VERSION,
            "kind": "AdaptationProbe",
            "metadata": {"name": name},
            "spec": spec.to_wire(),
        }
        files.write_atomic(path, yamltext.write(manifest))


def read_ending(folder: Path) -> Ending:
    """What the shepherd left behind."""
    started, ended = files.read_json(folder / "started.json"), files.read_json(folder / "exit.json")
    if started is None:
        return Ending()
    if ended is None:
        return Ending(started_at=float(started["startedAt"]))
    return Ending(
        started_at=float(started["startedAt"]),
        code=ended["code"],
        cause=ended["cause"],
        seconds=float(ended["seconds"]),
        finished_at=float(ended["finishedAt"]),
        peak_memory_bytes=ended.get("peakMemoryBytes"),
    )


def _read_bytes(path: Path) -> bytes | None:
    """A report's first bytes: one byte more than is allowed tells that it is too long, however long it is."""
    try:
        with path.open("rb") as file:
            return file.read(REPORT_LIMIT + 1)
    except OSError:
        return None
