"""What a training costs beside its tokens: passes over weights and their state, and set-up."""

import numpy as np
import pytest

from orrery.api.machines import Accelerator
from orrery.api.models import ModelFacts
from orrery.costs.accelerators import describe
from orrery.costs.flops import Training
from orrery.costs.throughput import SETUP_SECONDS, Observation, Throughput, WorkKind, counted_passes, effort, ridge

pytestmark = pytest.mark.unit

H100, CPU = describe(Accelerator(name="h100")), describe(Accelerator(name="cpu"))
#: Half of its parameters are a table that tokens are looked up in.
MINILM = ModelFacts(parameters=22_713_216, active_parameters=10_992_768, layers=6)


def test_the_optimizers_step_moves_every_parameter_at_full_bandwidth():
    dense = ModelFacts(parameters=8_030_261_248)
    assert float(counted_passes(dense, Training.ADAPTER, 100)) == 100
    full, read = (float(counted_passes(dense, t, 100)) for t in (Training.FULL, Training.ADAPTER))
    kind = WorkKind.FULL_TRAINING
    seconds = (full - read) * 6 * dense.parameters * ridge(H100, kind) / (0.35 * H100.peak_flops)
    assert seconds == pytest.approx(100 * 50 * dense.parameters / H100.bandwidth)  # 50 bytes a parameter and step
    assert float(counted_passes(dense, Training.FULL, 100)) == float(counted_passes(None, Training.FULL, 100))
    tables = float(counted_passes(MINILM, Training.FULL, 100)) - 100
    assert tables == pytest.approx((full - read) * MINILM.parameters / MINILM.active_parameters)


def test_each_training_has_its_set_up_and_scoring_none():
    kind = WorkKind.ADAPTER_TRAINING
    one, three = (float(effort(CPU, 1e12, 0.0, kind, runs)) - 1e12 for runs in (1, 3))
    assert three == pytest.approx(3 * one) and one == pytest.approx(SETUP_SECONDS * 0.42 * CPU.peak_flops)
    assert float(effort(CPU, 1e12, 0.0)) == 1e12 and float(effort(CPU, 0.0, 0.0, kind)) == 0.0


def test_short_trainings_do_not_make_long_ones_look_slow():
    # twenty trainings of which each took half a second for itself, beside one that is two hundred times as long
    kind, flops = WorkKind.ADAPTER_TRAINING, 1e10
    seconds = 20 * (SETUP_SECONDS + flops / (0.42 * CPU.peak_flops))
    fitted = Throughput.fit([Observation("m", CPU, kind, 20 * flops, seconds, runs=20)])
    long = fitted.seconds("m", CPU, kind, np.array([200 * flops]), 0.0).median()[0]
    assert long == pytest.approx(SETUP_SECONDS + 200 * flops / (0.42 * CPU.peak_flops), rel=1e-6)
