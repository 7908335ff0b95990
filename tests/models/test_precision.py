"""A model is measured as it is served: in 8 or 4 bits where the plan says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orrery.api.models import Model, Precision
from orrery.api.probe import Outcome, ProbeSpec, probe_name
from orrery.probes.report import number
from tests.models.conftest import Maker
from tests.models.specs import ZERO, model_at, shots, spec_of
from tests.unit.probes.tasks import local_task

pytestmark = pytest.mark.model


def in_precision(folder: Path, precision: str) -> Model:
    return model_at(folder).model_copy(update={"precision": Precision(precision)})


@pytest.mark.parametrize(("precision", "layer"), [("Int8", "Linear8bitLt"), ("Int4", "Linear4bit")])
def test_a_model_is_measured_in_the_precision_it_is_served_with(
    tiny: Maker, data: Path, tmp_path: Path, precision: str, layer: str
) -> None:
    from orrery.probes import evaluation, models
    from orrery.probes.data import read_task
    from orrery.probes.runner import run

    folder = tiny("llama", hidden_size=64, intermediate_size=128)  # four-bit blocks hold 64 weights
    plain, rounded = (models.load(in_precision(folder, p)) for p in ("Bf16", precision))
    kinds = {type(m).__name__ for n, m in rounded.module.named_modules() if n.endswith("_proj")}
    assert kinds == {layer} and type(rounded.module.get_output_embeddings()).__name__ == "Linear"
    assert rounded.facts == plain.facts, "packed weights are as many parameters as before"
    weights, smaller = (
        sum(p.numel() * p.element_size() for n, p in m.module.named_parameters() if "_proj" in n)
        for m in (plain, rounded)
    )
    assert smaller < weights * (0.6 if precision == "Int8" else 0.3)

    task = local_task(data)
    items = read_task(task).evaluation[:6]
    exact, near = (np.array(evaluation.evaluate(m, task, items).log_probabilities) for m in (plain, rounded))
    assert not np.array_equal(exact, near), "rounding is not free"
    correlation = np.corrcoef(exact.ravel(), near.ravel())[0, 1]
    assert correlation > (0.98 if precision == "Int8" else 0.7)

    wire = spec_of(folder, data, ZERO, shots(2)).model_dump(by_alias=True)
    spec = ProbeSpec.model_validate({**wire, "model": in_precision(folder, precision).to_wire()})
    report = run(spec, tmp_path / "r.json")
    assert report.complete and [t.outcome for t in report.trials] == [Outcome.MEASURED] * 2, report.trials
    scored = evaluation.evaluate(rounded, task, items)
    assert report.trials[0].score == number(float(scored.scores.mean())), "the probe scores the rounded weights"
    assert report.probe != probe_name(spec_of(folder, data, ZERO, shots(2))), "another measurement than that of 16 bits"
