"""What a request costs to serve: prefill and decode apart, batches, traffic that is not even, prompts that are kept.

Prefill computes (FLOPs over the calibrated speed), decode reads: every generated token reads the weights once for the whole
batch (of routed experts those that any request of the batch is sent to) and the request's own keys and values (Pope et al. 2022, arXiv 2211.05102)::

    decode seconds a request = output x (weights / batch + keys and values) / bandwidth
    latency                  = prefill + output x (weights + batch x keys and values) / bandwidth

Traffic: capacity that is provisioned must carry the busiest hour times the burst factor (BurstGPT, arXiv 2401.17644) at a
utilisation that leaves queues short, and is paid for day and night.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from orrery.api.models import ModelFacts, Precision
from orrery.api.plan import Capacity, Workload
from orrery.api.pricelist import TokenPrice
from orrery.costs.accelerators import AcceleratorFacts
from orrery.costs.flops import touched_parameters
from orrery.costs.lengths import AnswerLengths
from orrery.costs.memory import kv_cache_bytes
from orrery.costs.work import Work
from orrery.laws.posterior import Link, Posterior

Array = NDArray[np.float64]

#: Bytes of a weight, constants of its block included; embeddings and norms stay in 16 bits and are in the mean.
BYTES = {None: 2.0, Precision.BF16: 2.0, Precision.INT8: 1.1, Precision.INT4: 0.6}
#: Share of a replica's time that may be busy at the peak: beyond it queues grow without bound (M/G/1).
TARGET_UTILISATION = 0.7
#: Tokens are counted, not guessed: what is left is how much requests differ from the sample.
_TOKEN_SD = 0.05
_NOTHING = 1e-12


@dataclass(frozen=True)
class Served:
    """Of n candidates, each (n,): what one request takes, and what has to stand by."""

    busy_seconds: Posterior  #: of the accelerator, batches shared
    latency: Posterior  #: seconds until the answer is complete
    replicas: Array  #: accelerators (of the plan's count) that the peak needs; 0 where capacity is paid per use
    utilisation: Array  #: busy share of what is paid for; 1 where capacity is paid per use


def peak_ratio(workload: Workload) -> float:
    """Rate in the busiest minutes over the day's mean.

    >>> peak_ratio(Workload(requests_per_day=10, burst_factor=3))
    3.0
    """
    hours = workload.hourly_profile
    return workload.burst_factor * (24.0 * max(hours) / sum(hours) if hours else 1.0)


def serve(
    work: Work,
    prefill: Posterior,
    facts: ModelFacts,
    accelerator: AcceleratorFacts,
    workload: Workload,
    precision: Precision | None = None,
    generated: bool = False,
    lengths: AnswerLengths | None = None,
) -> Served:
    """What serving takes, from the seconds that reading and scoring a request alone takes (``prefill``, (n,)).

    Only ``generated`` answers are written token by token and share the reading of the weights; options are scored at once,
    and the latency allows for writing the one that was chosen. Where ``lengths`` were measured, the money rests on their
    mean, with its uncertainty, and the latency is that of the 95th percentile.
    """
    kept = np.ones(len(work))
    if workload.prompt_caching and work.request_shared_tokens is not None:
        kept = 1.0 - work.request_shared_tokens / np.maximum(work.request_input_tokens, 1.0)
    reading = Posterior(prefill.mean + np.log(np.maximum(kept, 1e-3)), prefill.sd, Link.LOG)
    weights = BYTES[precision] * float(touched_parameters(facts, float(workload.batch_size) if generated else 1.0))
    context = work.request_input_tokens + work.request_output_tokens / 2.0
    cache = np.asarray(kv_cache_bytes(facts, context))
    b, out = float(workload.batch_size), work.request_output_tokens
    shared = out * (weights / b + cache) / accelerator.bandwidth if generated else np.zeros(len(work))
    alone = out * (weights + (b if generated else 1.0) * cache) / accelerator.bandwidth
    uncertain, longest = (
        (lengths.relative_error, lengths.tail_ratio) if generated and lengths is not None else (0.0, 1.0)
    )
    busy, latency = plus(reading, shared, uncertain), plus(reading, alone * longest, uncertain)
    if workload.capacity is Capacity.PER_USE:
        return Served(busy, latency, np.zeros(len(work)), np.ones(len(work)))
    rate = float(workload.requests_per_day) / 86400.0
    load = rate * busy.median()
    replicas = np.where(load > 0, np.ceil(load * peak_ratio(workload) / TARGET_UTILISATION), 0.0)
    return Served(busy, latency, replicas, load / np.maximum(replicas, 1.0))


def serving_seconds(served: Served, workload: Workload) -> Posterior:
    """Accelerator-seconds that are paid for over the horizon, (n,)."""
    requests = float(workload.requests_per_day) * workload.horizon_days
    if workload.capacity is Capacity.PER_USE:
        if requests <= 0:
            return nothing(len(served.replicas))
        return Posterior(served.busy_seconds.mean + np.log(requests), served.busy_seconds.sd, Link.LOG)
    seconds = served.replicas * 86400.0 * workload.horizon_days
    # replicas are whole: the load's uncertainty moves their number only when it is more than a few
    sd = np.where(seconds > 0, served.busy_seconds.sd * (1.0 - np.exp(-(served.replicas - 1.0))), 0.0)
    return Posterior(np.log(np.maximum(seconds, _NOTHING)), sd, Link.LOG)


def hosted_cost(work: Work, price: TokenPrice, workload: Workload, lengths: AnswerLengths | None = None) -> Posterior:
    """Money of a hosted model's tokens over the horizon, (n,): prompt and answer, and what its cache makes cheaper."""
    requests = float(workload.requests_per_day) * workload.horizon_days
    full, out = float(price.input_per_million), float(price.output_per_million)
    kept = full if price.cached_input_per_million is None else float(price.cached_input_per_million)
    shared = work.request_shared_tokens if work.request_shared_tokens is not None else np.zeros(len(work))
    shared = shared if workload.prompt_caching else np.zeros(len(work))
    written = work.request_output_tokens * out
    each = (work.request_input_tokens - shared) * full + shared * kept + written
    money = each * requests / 1e6
    error = 0.0 if lengths is None else lengths.relative_error
    sd = np.hypot(_TOKEN_SD, error * written / np.maximum(each, _NOTHING))
    return Posterior(np.log(np.maximum(money, _NOTHING)), np.where(money > 0, sd, 0.0), Link.LOG)


def cost_of_pass(cost_per_request: float | Decimal, quality: float) -> float:
    """Expected money per right answer: the price of an attempt over the probability that it is right (arXiv 2504.13359).

    Infinite where nothing is ever right.

    >>> cost_of_pass(0.5, 0.8)
    0.625
    """
    return float(cost_per_request) / quality if quality > 0 else float("inf")


def nothing(n: int) -> Posterior:
    """No money and no time, n times."""
    return Posterior(np.full(n, np.log(_NOTHING)), np.zeros(n), Link.LOG)


def plus(p: Posterior, exact: Array, error: float = 0.0) -> Posterior:
    """A log-normal and what is known but for a relative ``error`` of its own."""
    median = np.exp(p.mean)
    total = median + exact
    return Posterior(
        np.log(np.maximum(total, _NOTHING)),
        np.hypot(p.sd * median, error * exact) / np.maximum(total, _NOTHING),
        Link.LOG,
    )
