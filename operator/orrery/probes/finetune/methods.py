"""How a fine-tuning trial is measured: for real, by the proxy, through the kernel, or by its first steps."""

from __future__ import annotations

from orrery.api.probe import Method, Trial, TrialResult
from orrery.probes.finetune.direct import Kind, measure_tuning
from orrery.probes.finetune.early import measure_early
from orrery.probes.finetune.kernel import measure_kernel
from orrery.probes.finetune.proxy import measure_proxy
from orrery.probes.session import Session


def measure_by_method(session: Session, trial: Trial, kind: Kind) -> TrialResult:
    """Measure ``trial`` by its fidelity's method."""
    if trial.fidelity.method is Method.DIRECT:
        return measure_tuning(session, trial, kind)
    if trial.fidelity.method is Method.PROXY:
        return measure_proxy(session, trial, kind)
    if trial.fidelity.method is Method.EARLY:
        return measure_early(session, trial, kind)
    return measure_kernel(session, trial, kind)
