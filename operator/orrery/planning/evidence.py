"""From probe records to what is known: every measurement that bears on the plan, and why the others do not.

Probes are untrusted: a report that names another probe, a trial that was not asked, a score that cannot be, or data that
differ from what the others read is refused with a sentence, and counts as a failed attempt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from orrery.api.catalogue import MODELS
from orrery.api.models import ModelFacts
from orrery.api.plan import PlanSpec
from orrery.api.probe import (
    Method,
    Outcome,
    Report,
    TaskFacts,
    Trial,
    TrialResult,
    data_identity,
    digest,
    model_identity,
)
from orrery.costs.flops import training_flops
from orrery.costs.throughput import WorkKind, counted_passes
from orrery.planning.reports import DATA_FAILURES, MEMORY_FAILURES, MODEL_FAILURES, agreed, moved, refusal
from orrery.planning.types import Facts, ProbeRecord, ProbeState
from orrery.strategies import registry
from orrery.strategies.base import Evidence
from orrery.strategies.trials import Identity, identity, parameters_of
from orrery.strategies.tuning_curves import update_steps

IN_FLIGHT = (ProbeState.RESERVED, ProbeState.QUEUED, ProbeState.RUNNING)
#: Sizes of a model as reports write them.
_SIZES = {field.alias or name for name, field in ModelFacts.model_fields.items()}
_TOO_MUCH = MEMORY_FAILURES | {"DeadlineExceeded"}


@dataclass
class Known:
    """What the records say about this plan; models by their name in the plan."""

    evidence: dict[str, list[Evidence]] = field(default_factory=dict)
    task_facts: TaskFacts | None = None
    model_facts: dict[str, ModelFacts] = field(default_factory=dict)
    #: FLOPs, their seconds, and one token's FLOPs times the passes they took
    work: dict[tuple[str, str, WorkKind], tuple[float, float, float, int]] = field(default_factory=dict)
    uncertain: dict[str, str] = field(default_factory=dict)  #: model: why its sizes are
    commits: dict[str, str] = field(default_factory=dict)  #: model of the hub: what was loaded
    load_seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)  #: by model and accelerator
    late: Counter[tuple[str, str]] = field(default_factory=Counter)  #: probes that met their deadline, by the same
    in_flight: list[tuple[str, str, Trial]] = field(default_factory=list)  #: model, accelerator, trial
    refused: dict[str, str] = field(default_factory=dict)  #: probe name: why its report does not count
    retry: list[ProbeRecord] = field(default_factory=list)  #: failed without a measurement, to be tried again
    lost_models: dict[str, str] = field(default_factory=dict)  #: model: why it cannot be probed
    data_problem: str | None = None  #: why no probe can read the data
    last_failure: str | None = None
    flops: float = 0.0


def gather(spec: PlanSpec, records: Sequence[ProbeRecord], facts: Facts) -> Known:
    """Everything the records tell; independent of their order."""
    known = Known()
    for m in spec.models:
        listed = MODELS.get(m.source.builtin.name) if m.source.builtin is not None else None
        if m.facts is not None or listed is not None:
            known.model_facts[m.name] = m.facts or listed.facts  # type: ignore[union-attr]  # one of them is there
    known.model_facts.update(facts.models)
    stated = {m.name for m in spec.models if m.facts is not None}
    known.uncertain.update({name: why for name, why in facts.uncertain.items() if name not in stated})
    models, task = _asked(spec)
    accelerators = {a.name for a in spec.accelerators}
    ours = [
        (models[key], r)
        for r in sorted(records, key=lambda r: r.name)
        if not r.confirming
        and (key := digest(model_identity(r.spec.model))) in models
        and digest(data_identity(r.spec.task)) == task
    ]
    reports = {r.name: rep for _, r in ours if (rep := _believable(known, r)) is not None}
    _settle_data(known, facts, reports)
    _settle_models(known, ours, reports)
    failures: Counter[tuple[str, Identity, int]] = Counter()
    given_up: list[tuple[str, ProbeRecord, Trial, str]] = []
    for model, record in ours:
        report = reports.get(record.name)
        if record.state in IN_FLIGHT:
            known.in_flight += [(model, record.spec.accelerator, t) for t in record.spec.trials]
            if report is None:
                continue
        answered = _take(known, model, record, report, accelerators) if report is not None else set()
        if record.state in IN_FLIGHT:
            continue
        missing = [t for t in record.spec.trials if t.name not in answered]
        if missing:
            _fail(known, spec, model, record, report, missing, bool(answered), failures, given_up)
    _close(known, given_up)
    for model, found in known.evidence.items():
        if any(e.result.outcome is Outcome.MEASURED for e in found):
            known.lost_models.pop(model, None)  # it was there; only the trials that failed are given up
    for found in known.evidence.values():
        found.sort(key=lambda e: (e.trial.strategy, identity(e.trial), e.trial.seed, e.accelerator))
    return known


def obsolete(spec: PlanSpec, records: Sequence[ProbeRecord]) -> list[ProbeRecord]:
    """Probes in flight of data or models that the plan, edited since, does not ask about any more; in the given order.

    Whoever runs them should end them: they hold money, and measure nothing that the answer could rest on.
    """
    flying = [r for r in records if r.state in IN_FLIGHT]
    if not flying:
        return []
    models, task = _asked(spec)
    return [
        r
        for r in flying
        if digest(model_identity(r.spec.model)) not in models or digest(data_identity(r.spec.task)) != task
    ]


def _asked(spec: PlanSpec) -> tuple[dict[str, str], str]:
    """Names of the plan's models by their digest, and the digest of its task."""
    return {digest(model_identity(m)): m.name for m in spec.models}, digest(data_identity(spec.task))


def _believable(known: Known, record: ProbeRecord) -> Report | None:
    """The record's report, or None with the reason kept in ``refused``."""
    report = record.report
    if report is None:
        return None
    problem = refusal(record.spec, report)
    if problem is None:
        return report
    known.refused[record.name] = problem
    return None


def _settle_data(known: Known, facts: Facts, reports: dict[str, Report]) -> None:
    """Agrees on one data digest: the shell's own, else the one most reports name; the others are refused."""
    known.task_facts = facts.task
    seen_by = [r.task_facts.digest for r in reports.values() if r.task_facts is not None]
    true = facts.task.digest if facts.task is not None else agreed(seen_by)
    if true is None:
        return
    told = False
    for name in sorted(reports):
        seen = reports[name].task_facts
        if seen is None:
            continue
        if seen.digest != true:
            known.refused[name] = f"the data it read has the digest {seen.digest[:12]}, all other data {true[:12]}"
            del reports[name]
        elif known.task_facts is None or (not told and seen.input_tokens is not None):
            # A probe counts tokens, the shell only estimates them; so the same reports give the same answer in both shells.
            told, known.task_facts = seen.input_tokens is not None, seen


def _settle_models(known: Known, ours: Sequence[tuple[str, ProbeRecord]], reports: dict[str, Report]) -> None:
    """Agrees on one commit of every model of the hub, that which most reports name; the others are refused.

    The same of data needs no rule: examples of the same digest are the same, whatever else a commit has changed.
    """
    told = [(model, r, reports[r.name]) for model, r in ours if r.name in reports]
    for name in sorted({model for model, _, report in told if report.model_commit is not None}):
        commit = agreed(report.model_commit for model, _, report in told if model == name)
        assert commit is not None  # one report at least tells it
        known.commits[name] = commit
        for model, record, report in told:
            if model == name and report.model_commit not in (None, commit):
                known.refused[record.name] = moved(record.spec.model, report, commit)
                del reports[record.name]


def _take(known: Known, model: str, record: ProbeRecord, report: Report, accelerators: set[str]) -> set[str]:
    """Keeps a report's results; returns the names of the trials that are answered."""
    trials = {t.name: t for t in record.spec.trials}
    where = record.spec.accelerator
    if report.load_seconds is not None and report.load_seconds > 0:
        known.load_seconds.setdefault((model, where), []).append(float(report.load_seconds))
    if model not in known.model_facts and report.model_facts and report.model_facts.get("parameters", 0) > 0:
        known.model_facts[model] = ModelFacts.model_validate(
            {k: v for k, v in report.model_facts.items() if k in _SIZES and v > 0}
        )
        known.uncertain.pop(model, None)  # of what the shell could not read
        if report.model_problem is not None:
            known.uncertain[model] = report.model_problem
    answered: set[str] = set()
    have = {(identity(e.trial), e.trial.seed) for e in known.evidence.get(model, [])}
    for result in sorted(report.trials, key=lambda r: r.name):
        trial = trials[result.name]
        known.flops += float(result.train_flops or 0) + float(result.evaluation_flops or 0)
        if result.outcome is Outcome.FAILED:
            continue
        answered.add(result.name)
        if where in accelerators:
            _observe(known, model, where, trial, result)
        if (identity(trial), trial.seed) not in have:
            known.evidence.setdefault(model, []).append(Evidence(trial, result, where))
            have.add((identity(trial), trial.seed))
    return answered


def _observe(known: Known, model: str, accelerator: str, trial: Trial, result: TrialResult) -> None:
    training = None
    if trial.strategy in registry.installed() and trial.fidelity.method in (Method.DIRECT, Method.EARLY):
        training = registry.get(trial.strategy).training
    facts, tokens = known.model_facts.get(model), float(result.train_tokens)
    pairs = [(WorkKind.INFERENCE, result.evaluation_flops, result.evaluation_seconds, 0.0)]
    if training is not None:
        epochs = float(parameters_of(trial).get("epochs", 1.0))
        steps = update_steps(np.array([float(trial.fidelity.training_examples or 1)]), np.array([epochs]))
        steps = steps * (trial.fidelity.schedule_percent or 100) / 100
        # not the mean over all tokens: those an encoder's head is fitted on are only read
        each = float(result.train_flops or 0) / max(tokens, 1.0)
        each = each if facts is None else float(training_flops(facts, training, 1.0, 1.0))
        passes = each * float(counted_passes(facts, training, steps, tokens)[0])
        pairs.append((WorkKind.of(training), result.train_flops, result.train_seconds, passes))
    for kind, flops, seconds, passes in pairs:
        if flops and seconds and flops > 0 and seconds > 0:
            # Sums, so that long runs count by their length: short ones are mostly set-up.
            done, spent, passed, runs = known.work.get((model, accelerator, kind), (0.0, 0.0, 0.0, 0))
            total = done + float(flops), spent + float(seconds), passed + passes, runs + 1
            known.work[model, accelerator, kind] = total


def _fail(
    known: Known,
    spec: PlanSpec,
    model: str,
    record: ProbeRecord,
    report: Report | None,
    missing: list[Trial],
    partly: bool,
    failures: Counter[tuple[str, Identity, int]],
    given_up: list[tuple[str, ProbeRecord, Trial, str]],
) -> None:
    """Decides what becomes of trials that a finished probe did not answer: ask again, or give them up."""
    reason = (report.reason if report is not None else None) or record.reason or "Failed"
    message = known.refused.get(record.name) or (report.error if report is not None else None) or record.message
    # what was nobody's failure, such as an end before its time, counts as no attempt
    after = f" after {record.attempts} attempt{'s' * (record.attempts != 1)}" if record.attempts else ""
    sentence = f"{record.name} failed{after} ({reason})" + (f": {message}" if message else "")
    known.last_failure = sentence
    if record.reason in _TOO_MUCH or reason in _TOO_MUCH:
        # Trials run in the order of the spec and each is reported when it ends: the first unanswered one was too much,
        # for the memory or for the deadline; the others are asked again without it.
        memory = reason in MEMORY_FAILURES or record.reason in MEMORY_FAILURES
        given_up.append((model, record, missing[0], "OutOfMemory" if memory else sentence))
        return
    if reason in DATA_FAILURES and not partly:
        known.data_problem = known.data_problem or sentence
    if reason in MODEL_FAILURES and not partly:
        known.lost_models.setdefault(model, sentence)
    final = not record.retryable or reason in DATA_FAILURES or reason in MODEL_FAILURES
    if not partly and not final and record.attempts <= spec.probing.retries:
        known.retry.append(record)
        return
    for t in missing:
        failures[model, identity(t), t.seed] += record.attempts
        if final or failures[model, identity(t), t.seed] > spec.probing.retries:
            given_up.append((model, record, t, sentence))


def _close(known: Known, given_up: list[tuple[str, ProbeRecord, Trial, str]]) -> None:
    """Trials that are given up become evidence without a score, so that nothing asks for them again."""
    for model, record, trial, why in given_up:
        found = known.evidence.setdefault(model, [])
        if any(identity(e.trial) == identity(trial) and e.trial.seed == trial.seed for e in found):
            continue
        outcome = Outcome.OUT_OF_MEMORY if why == "OutOfMemory" else Outcome.FAILED
        text = None if why == "OutOfMemory" else why[:1000]
        found.append(
            Evidence(trial, TrialResult(name=trial.name, outcome=outcome, message=text), record.spec.accelerator)
        )
