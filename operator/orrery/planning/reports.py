"""Whether a probe's report may be believed. Pure: bytes in, a report or a reason out.

A probe runs other people's models on other people's data, so its report is input like any other: bounded, parsed, and
compared with what was asked before anything is concluded from it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

from pydantic import ValidationError

from orrery.api.models import Model
from orrery.api.probe import REPORT_LIMIT, Method, Outcome, ProbeSpec, Report, TrialResult, probe_name
from orrery.costs.lengths import QUANTILES

#: Slack between a probe's own clock and ours, and for scores that were rounded on their way.
CLOCK_SLACK_SECONDS = 2.0
SCORE_SLACK = Decimal("0.001")

#: Too little memory: an answer about the candidate, not a failure of the probe.
MEMORY_FAILURES = frozenset({"OutOfMemory", "OOMKilled"})
#: Failures that concern the data, and so the whole plan.
DATA_FAILURES = frozenset(
    {
        *("InvalidData", "DataNotFound", "MissingColumn", "MissingSplit", "EmptySplit", "InvalidInput"),
        *("InvalidTarget", "UnseenLabel", "TooManyLabels", "UnreadableFile", "SourceNotFound"),
    }
)
#: Failures that no other attempt and no other configuration of the model can mend. A path or an asset that is missing may be
#: the data's as well as the model's; then every model fails of it.
MODEL_FAILURES = frozenset(
    {
        *("ModelNotFound", "RevisionNotFound", "AccessDenied", "InvalidModel", "UnreadableModel"),
        *("MissingAsset", "UnknownAsset", "PathNotFound", "PathLeavesVolume"),
    }
)
#: Reasons that trying again would only pay for once more.
FINAL_REASONS = (
    MEMORY_FAILURES
    | DATA_FAILURES
    | MODEL_FAILURES
    | {"DeadlineExceeded", "Unsupported", "InvalidSpec", "InvalidOptions", "MissingPackage", "NotExecutable"}
)


@dataclass(frozen=True)
class Judgement:
    """A report that may be used, or why it may not: a CamelCase reason and a sentence."""

    report: Report | None
    reason: str = ""
    message: str = ""

    @property
    def told(self) -> tuple[str, str] | None:
        """Reason and sentence of the end that the report itself tells: its error, or that all was measured; else None."""
        if self.report is not None and self.report.error:
            return self.report.reason or "ProbeFailed", self.report.error
        if self.report is not None and self.report.complete:
            return "Completed", ""
        return None

    @property
    def kept(self) -> str:
        """What counts of a probe that ended early, to be added to the sentence that says why."""
        trials = self.report.trials if self.report is not None else []
        return f"; {len(trials)} of its measurements count" if trials else ""


def judge(
    raw: bytes | None, spec: ProbeSpec, data_digest: str | None, seconds: float | None, model_commit: str | None = None
) -> Judgement:
    """Read a report as untrusted input.

    Parameters
    ----------
    raw
        What the probe wrote; None when it wrote nothing.
    spec
        What it was asked to measure.
    data_digest
        Digest of the data as this side read it; None when it could not.
    seconds
        Wall-clock seconds the process ran; None when nobody knows.
    model_commit
        Commit of the hub's model as other probes loaded it; None when there is none.

    Examples
    --------
    >>> judge(None, spec=None, data_digest=None, seconds=None).reason
    'ReportMissing'
    """
    if raw is None or not raw.strip():
        return Judgement(None, "ReportMissing", "the probe ended without a report; its log says why")
    if len(raw) > REPORT_LIMIT:
        return Judgement(None, "ReportTooLarge", f"the report has more than the {REPORT_LIMIT} bytes that are read")
    try:
        report = Report.model_validate(json.loads(raw, parse_constant=_refuse_constant))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "report"
        return Judgement(None, "ReportInvalid", f"the report's {place} is not as agreed: {first['msg']}")
    except (ValueError, RecursionError) as error:
        return Judgement(None, "ReportInvalid", f"the report is not JSON: {error}")
    try:
        _agree(report, spec, data_digest, model_commit)
        _plausible(report, spec, seconds)
    except _RefusalError as refused:
        return Judgement(None, refused.reason, str(refused))
    return Judgement(report)


def refusal(spec: ProbeSpec, report: Report) -> str | None:
    """Why a report that was read before cannot be true, as a sentence; None when nothing speaks against it."""
    try:
        _agree(report, spec, None, None)
        _plausible(report, spec, None)
    except _RefusalError as refused:
        return str(refused)
    return None


def moved(model: Model, report: Report, commit: str) -> str:
    """That a model of the hub was loaded at another commit than before, as a sentence."""
    source = model.source.hugging_face
    asked = f"'{source.revision}' of '{source.repo}'" if source is not None else f"model '{model.name}'"
    return (
        f"the probe loaded {asked} at commit {str(report.model_commit)[:12]}, and other probes at {commit[:12]}: write "
        f"the commit that is to be measured as huggingFace.revision"
    )


def agreed(values: Iterable[str | None]) -> str | None:
    """What most of them say, the first by name of equals; None where nobody says anything.

    >>> agreed(["b", "a", None, "b"]), agreed(["b", "a"]), agreed([None])
    ('b', 'a', None)
    """
    said = Counter(value for value in values if value is not None)
    return min(said, key=lambda value: (-said[value], value)) if said else None


class _RefusalError(Exception):
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is not a number")


def _agree(report: Report, spec: ProbeSpec, data_digest: str | None, model_commit: str | None) -> None:
    """The report answers this question, about this data."""
    if report.probe != probe_name(spec):
        raise _RefusalError("ForeignReport", f"the report names the probe '{report.probe}', not '{probe_name(spec)}'")
    asked = {trial.name for trial in spec.trials}
    told = [result.name for result in report.trials]
    for name in told:
        if name not in asked:
            raise _RefusalError("ReportInvalid", f"the report holds the trial '{name}', which was not asked")
        if told.count(name) > 1:
            raise _RefusalError("ReportInvalid", f"the report holds the trial '{name}' twice")
    if report.complete and not report.error and len(told) < len(asked):
        missing = ", ".join(sorted(asked - set(told)))
        raise _RefusalError("ReportInvalid", f"the report says it is complete and lacks the trials {missing}")
    facts = report.task_facts
    if data_digest is not None and facts is not None and facts.digest != data_digest:
        raise _RefusalError(
            "DataMismatch", f"the probe read data of digest {facts.digest[:12]}, and this side {data_digest[:12]}"
        )
    if None not in (model_commit, report.model_commit) and report.model_commit != model_commit:
        raise _RefusalError("RevisionMismatch", moved(spec.model, report, str(model_commit)))


def _plausible(report: Report, spec: ProbeSpec, seconds: float | None) -> None:
    """The numbers can be true."""
    fidelity = {trial.name: trial.fidelity for trial in spec.trials}
    for result in report.trials:
        # A kernel says how the model will learn, the first steps how it begins to: both evaluate nothing.
        method = fidelity[result.name].method
        scored = result.outcome is Outcome.MEASURED and method not in (Method.KERNEL, Method.EARLY)
        if method is Method.EARLY and result.outcome is Outcome.MEASURED and not result.train_loss:
            raise _RefusalError("ReportInvalid", f"the trial '{result.name}' is Measured without a train loss")
        if any(loss < 0 for loss in result.train_loss):
            raise _RefusalError("ReportImplausible", f"the trial '{result.name}' reports a train loss below zero")
        if scored and (result.score is None or result.items < 1):
            raise _RefusalError("ReportInvalid", f"the trial '{result.name}' is Measured without a score or items")
        if result.score is not None and spec.task.metric.bounded and not 0 <= result.score <= 1:
            raise _RefusalError(
                "ReportImplausible", f"the trial '{result.name}' has the score {result.score}, outside 0 to 1"
            )
        if scored and not spec.task.metric.bounded and (result.score or 0) <= 0:
            raise _RefusalError(
                "ReportImplausible",
                f"the trial '{result.name}' has the score {result.score}: a negative log-likelihood is above 0",
            )
        if result.items > fidelity[result.name].evaluation_items:
            raise _RefusalError(
                "ReportImplausible",
                f"the trial '{result.name}' scored {result.items} items of {fidelity[result.name].evaluation_items}",
            )
        for field in (
            "standard_error",
            "train_seconds",
            "evaluation_seconds",
            "train_flops",
            "evaluation_flops",
            "output_tokens",
            "output_tokens_error",
        ):
            value = getattr(result, field)
            if value is not None and value < 0:
                raise _RefusalError(
                    "ReportImplausible", f"the trial '{result.name}' reports {field} {value}, below zero"
                )
        spread = result.output_token_quantiles
        if spread and (len(spread) != len(QUANTILES) or spread != sorted(spread) or result.output_tokens is None):
            raise _RefusalError(
                "ReportImplausible",
                f"the trial '{result.name}' has the answer lengths {spread}: {len(QUANTILES)} rising ones and their mean "
                "are expected",
            )
        if spread and spread[-1] > spec.task.max_output_tokens:
            raise _RefusalError(
                "ReportImplausible",
                f"the trial '{result.name}' wrote answers of {spread[-1]} tokens, above maxOutputTokens "
                f"{spec.task.max_output_tokens}",
            )
        _bits(result)
    if seconds is not None:
        spent = sum(
            float(value)
            for r in report.trials
            for value in (r.train_seconds, r.evaluation_seconds)
            if value is not None
        )
        if spent > seconds + CLOCK_SLACK_SECONDS:
            raise _RefusalError(
                "ReportImplausible", f"the report tells of {spent:.1f} s of work, and the process lived {seconds:.1f} s"
            )


def _bits(result: TrialResult) -> None:
    """Per-item results, where given, say the same as the score."""
    if result.bits is None or result.score is None or result.items == 0:
        return
    try:
        packed = base64.b64decode(result.bits, validate=True)
    except binascii.Error:
        raise _RefusalError("ReportInvalid", f"the bits of the trial '{result.name}' are not base64") from None
    right = sum(byte.bit_count() for byte in packed)
    if len(packed) != -(-result.items // 8) or abs(Decimal(right) / result.items - result.score) > SCORE_SLACK:
        raise _RefusalError(
            "ReportImplausible",
            f"the trial '{result.name}' scored {result.score} on {result.items} items, and its bits say {right} right",
        )


def merge(spec: ProbeSpec, reports: Sequence[Report]) -> Report | None:
    """What all attempts of a probe measured together, later attempts first: a second attempt only does what is left.

    Complete when every trial of ``spec`` has an outcome or the latest report is complete with an error.
    """
    if not reports:
        return None
    latest = reports[-1]
    results: dict[str, TrialResult] = {}
    for report in reports:
        results.update({result.name: result for result in report.trials})
    known: dict[str, Any] = {}
    for field in ("load_seconds", "model_facts", "architecture", "model_commit", "model_problem", "task_facts"):
        known[field] = next((v for r in reversed(reports) if (v := getattr(r, field)) is not None), None)
    trials = [results[trial.name] for trial in spec.trials if trial.name in results]
    complete = len(trials) == len(spec.trials)
    return latest.model_copy(update={**known, "probe": probe_name(spec), "trials": trials, "complete": complete})


def left_to_do(spec: ProbeSpec, report: Report | None) -> ProbeSpec | None:
    """The part of the spec that no attempt has an outcome for; None when nothing is left.

    A trial that Failed is tried again, one that was out of memory or unsupported is not: it would be so again.
    """
    done = {result.name for result in report.trials if result.outcome is not Outcome.FAILED} if report else set()
    left = [trial for trial in spec.trials if trial.name not in done]
    return spec.model_copy(update={"trials": left}) if left else None
