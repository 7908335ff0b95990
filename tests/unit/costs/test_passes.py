"""What a pass costs beside its tokens: set-up, narrow layers, the optimizer's step."""

import pytest

from orrery.api.machines import Accelerator
from orrery.api.models import ModelFacts
from orrery.costs.accelerators import describe
from orrery.costs.throughput import SETUP_PASSES, WorkKind, counted_passes, ridge

pytestmark = pytest.mark.unit

H100 = describe(Accelerator(name="h100"))


def test_narrow_layers_and_the_optimizers_step_cost_passes_of_their_own():
    wide = ModelFacts(parameters=8_030_261_248, layers=32)
    narrow = ModelFacts(parameters=10_992_768, layers=6)
    assert float(counted_passes(wide, 100)) == float(counted_passes(None, 100)) == 100 + SETUP_PASSES
    assert float(counted_passes(narrow, 100)) > float(counted_passes(wide, 100))
    assert ridge(H100, WorkKind.FULL_TRAINING) > ridge(H100, WorkKind.ADAPTER_TRAINING) == ridge(H100)
    # an optimizer's step alone, at the utilisation that all effort is divided by: 50 bytes a parameter at full bandwidth
    extra = ridge(H100, WorkKind.FULL_TRAINING) - ridge(H100)
    assert extra * 6 / (0.35 * H100.peak_flops) == pytest.approx(50 / H100.bandwidth)
