"""What a candidate has to compute, before anybody says how fast or at what price."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Work:
    """Computation of n configurations of one model and strategy; every array has shape (n,).

    Adaptation is done once, a request ``requests`` times. Tokens are those of one request as it is served, demonstrations
    included, so that longer in-context prompts cost what they cost.
    """

    adaptation_flops: Array  #: total, once
    adaptation_tokens: Array  #: training tokens (examples x epochs x length), once
    request_input_tokens: Array  #: prompt tokens of one request
    request_output_tokens: Array  #: generated tokens of one request
    request_flops: Array  #: prefill and decode of one request
    adaptation_memory: Array  #: bytes at the peak of training; 0 when nothing is trained
    serving_memory: Array  #: bytes to serve one request at a time
    #: bytes that a process which trains on a CPU has resident at its peak (``memory.process_memory``); None: nothing is trained
    process_memory: Array | None = None
    #: FLOPs of one trained token times the training's ``throughput.counted_passes``; None: not counted
    pass_flops: Array | None = None
    request_shared_tokens: Array | None = (
        None  #: with which every prompt begins, so that a cache may keep them; None: none
    )
    evaluation_flops: Array | None = None  #: of one item as a probe scores it, with shared prefixes; None: as served

    @property
    def adaptation_pass_flops(self) -> Array:
        """What the training's passes over few tokens cost beside their FLOPs (``throughput.effort``)."""
        return np.zeros(len(self)) if self.pass_flops is None else self.pass_flops

    def __len__(self) -> int:
        return len(self.adaptation_flops)
