"""Two rows of results."""

from orrery.api.quantities import Interval
from orrery.planning.types import ResultRow


def _row(name: str, probability: float) -> ResultRow:
    some = Interval(0.1 + 0.2, 0.1, 0.9)
    return ResultRow(
        candidate=name,
        model="m",
        strategy="s",
        type="LoRA",
        configuration=(("rank", "4"),),
        accelerator="cpu",
        quality=some,
        adaptation_cost=some,
        serving_cost=some,
        total_cost=some,
        latency_milliseconds=1 / 3,
        adaptation_flops=1e12,
        serving_flops=None,
        memory_bytes=None,
        measured=False,
        feasible_probability=probability,
        status="Alternative",
        reason="0.6 x 2 = 1.2",
    )


ROWS = [_row("m/s/4", 0.5), _row("m/s/8", 2 / 3)]
