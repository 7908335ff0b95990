"""Run one probe: read the data once, load the model once, measure every trial, and keep the report up to date.

The report is on disk after every trial, so a probe that is killed has still told what it measured. One trial's failure
is that trial's outcome and touches no other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from orrery.api.probe import Outcome, ProbeSpec, Report, Trial, TrialResult, probe_name
from orrery.plugins import entries
from orrery.probes.data import read_task
from orrery.probes.errors import ProbeError
from orrery.probes.facts import task_facts
from orrery.probes.locations import SourceRoots
from orrery.probes.memory import PeakMemory
from orrery.probes.report import number, write_report
from orrery.probes.session import Measure, Session, Tuned, Unsupported

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

#: Below the bounds of ``message`` and ``error``.
MESSAGE_LENGTH = 400


def measures() -> dict[str, Measure]:
    """Measurements by strategy type, from the entry points ``orrery.measures``; loaded when first used."""
    return {name: _Lazy(point) for name, point in entries("orrery.measures").items()}


class _Lazy:
    """An entry point that is imported at the first call, so that one broken plug-in fails its own trials alone."""

    def __init__(self, point: EntryPoint) -> None:
        self._point = point

    def __call__(self, session: Session, trial: Trial) -> TrialResult:
        measure: Measure = self._point.load()
        return measure(session, trial)


def run(
    spec: ProbeSpec,
    report_path: Path,
    roots: SourceRoots | None = None,
    strategies: dict[str, Measure] | None = None,
    keep: Callable[[Session], Callable[[Tuned], None]] | None = None,
) -> Report:
    """Measure everything that ``spec`` asks for and write the report; returns what was written.

    Parameters
    ----------
    spec
        The probe's question.
    report_path
        Where the report goes; rewritten after every trial, ``complete`` only at the end.
    roots
        Where volumes, ConfigMaps, local files and builtin assets are; by default as the environment says.
    strategies
        Measurements by strategy type; by default the installed ones.
    keep
        Given the session, what is to be done with every model that a trial has tuned, before it is taken apart again.

    Raises ``OSError`` when the report cannot be written. Whatever goes wrong with data, model or trials is in the report.
    """
    start = time.monotonic()
    roots = roots or SourceRoots.from_environment()
    report = Report(probe=probe_name(spec), complete=False)

    def publish(**changes: object) -> Report:
        nonlocal report
        report = report.model_copy(update={"total_seconds": number(time.monotonic() - start), **changes})
        write_report(report, report_path)
        return report

    def give_up(reason: str, error: BaseException) -> Report:
        return publish(complete=True, reason=reason, error=_sentence(error))

    publish()
    try:
        data = read_task(spec.task, roots)
    except ProbeError as error:
        return give_up(error.reason, error)
    except Exception as error:
        return give_up("OutOfMemory" if out_of_memory(error) else "InvalidData", error)
    publish(task_facts=task_facts(spec.task, data))

    try:
        from orrery.probes.models import load
    except ImportError as error:
        return give_up("MissingPackage", ImportError(f"{error}: pip install 'orrery[probe]'"))
    try:
        model = load(spec.model, roots)
    except ProbeError as error:
        return give_up(error.reason, error)
    except Exception as error:
        return give_up("OutOfMemory" if out_of_memory(error) else "ModelNotLoaded", error)
    session = Session(spec=spec, data=data, model=model)
    if keep is not None:
        session.keep = keep(session)
    publish(
        load_seconds=number(model.load_seconds),
        model_facts=model.facts.model_dump(exclude_none=True, by_alias=True),
        architecture=str(type(model.module).__name__)[:64],
        model_commit=model.commit,
        model_problem=model.problem,
        task_facts=task_facts(spec.task, data, model.tokenizer, neighbours=True),
    )

    results: list[TrialResult] = []
    available = measures() if strategies is None else strategies
    for trial in spec.trials:
        results.append(measure_trial(session, trial, available))
        publish(trials=list(results), complete=len(results) == len(spec.trials))
    return report


def measure_trial(session: Session, trial: Trial, available: dict[str, Measure]) -> TrialResult:
    """One trial's result, whatever happens in it; leaves the session's model pristine."""
    from orrery.probes.models import fingerprint, give_back_memory, seed_everything

    measure = available.get(trial.strategy)
    if measure is None:
        known = ", ".join(sorted(available))
        return _ended(trial, Outcome.UNSUPPORTED, f"no strategy '{trial.strategy}' is installed: there is {known}")
    before = fingerprint(session.model.module)
    seed_everything(trial.seed)
    session.model.module.eval()
    with PeakMemory(session.model.device) as peak:
        result = _measure(measure, session, trial)
    if result.outcome is Outcome.OUT_OF_MEMORY:
        give_back_memory()
    if fingerprint(session.model.module) != before:
        # The next trial must see the model as it was loaded, also after a trial that trained and then failed.
        session.model.fresh()
    if result.outcome is not Outcome.UNSUPPORTED and result.peak_memory_bytes is None:
        result = result.model_copy(update={"peak_memory_bytes": peak.bytes})
    return result


def _measure(measure: Measure, session: Session, trial: Trial) -> TrialResult:
    try:
        # Validated again: a plug-in may have made its result by model_copy, which checks nothing.
        return TrialResult.model_validate(measure(session, trial).model_copy(update={"name": trial.name}).model_dump())
    except Unsupported as error:
        return _ended(trial, Outcome.UNSUPPORTED, _sentence(error))
    except FloatingPointError as error:
        return _ended(trial, Outcome.DIVERGED, _sentence(error))
    except Exception as error:
        outcome = Outcome.OUT_OF_MEMORY if out_of_memory(error) else Outcome.FAILED
        return _ended(trial, outcome, _sentence(error))


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out; torch's CPU allocator raises a plain ``RuntimeError``."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        sign in text for sign in ("can't allocate memory", "not enough memory", "out of memory", "alloc_cpu")
    )


def _ended(trial: Trial, outcome: Outcome, message: str) -> TrialResult:
    return TrialResult(name=trial.name, outcome=outcome, message=message)


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if not isinstance(error, (ProbeError, Unsupported, FloatingPointError)):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= MESSAGE_LENGTH else text[: MESSAGE_LENGTH - 1] + "…"
