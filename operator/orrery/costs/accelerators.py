"""Accelerators by name: peak speed, memory and bandwidth from their makers' data sheets.

The peak is dense 16-bit (bf16, or fp16 where the chip has no bf16) without sparsity. A plan may use a name that is not
here: its memory must then be written in the plan to be checked, and its speed is unknown until a probe has measured it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from orrery.api.machines import Accelerator

_UNITS = {"Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


@dataclass(frozen=True)
class AcceleratorFacts:
    """Peak FLOP/s, bytes of memory (None: unknown) and bytes/s of memory bandwidth, of all accelerators of a probe."""

    name: str
    peak_flops: float
    memory_bytes: float | None
    bandwidth: float
    known: bool

    @property
    def is_host(self) -> bool:
        """Whether work shares the memory of its process, libraries and heap included, as on a CPU."""
        return self.name == "cpu"


#: name: (peak TFLOP/s, GiB, GB/s)
_CATALOGUE: dict[str, tuple[float, float, float]] = {
    "cpu": (0.25, 16, 40),  # a few server cores with AVX-512 bf16; the probe's own measurement replaces it
    "t4": (65, 15, 320),
    "v100": (125, 16, 900),
    "a10g": (70, 24, 600),
    "a40": (149.7, 48, 696),
    "l4": (121, 24, 300),
    "l40s": (362, 48, 864),
    "rtx4090": (165.2, 24, 1008),
    "a100-40gb": (312, 40, 1555),
    "a100-80gb": (312, 80, 2039),
    "h100-pcie": (756, 80, 2000),
    "h100": (989, 80, 3350),
    "h200": (989, 141, 4800),
    "b200": (2250, 180, 8000),
    "mi300x": (1307, 192, 5300),
}

#: Stands in for a name that the catalogue lacks; throughput then has a very wide prior.
_UNKNOWN = (100.0, 0.0, 600.0)


def unknown_note(accelerator: Accelerator) -> str | None:
    """A sentence where nothing is known of an accelerator but its name; None for one of the catalogue.

    >>> (unknown_note(Accelerator(name="a100")) or "").partition(":")[0].rpartition(" (")[2]
    'such as a100-40gb, a100-80gb)'
    """
    name = accelerator.name
    if name in _CATALOGUE:
        return None
    near = [n for n in _CATALOGUE if n.startswith(name)] or difflib.get_close_matches(name, _CATALOGUE, n=1, cutoff=0.5)
    memory = (
        "" if accelerator.memory else f", and its memory is not checked unless spec.accelerators[{name}].memory says it"
    )
    hint = f" (such as {', '.join(near)})" if near else ""
    return (
        f"the accelerator '{name}' is none of {', '.join(_CATALOGUE)}{hint}: its speed is "
        f"unknown until a probe has measured it{memory}"
    )


def memory_bytes(quantity: str) -> int:
    """Bytes of a binary quantity.

    >>> memory_bytes("24Gi")
    25769803776
    """
    return int(quantity[:-2]) * _UNITS[quantity[-2:]]


def describe(accelerator: Accelerator) -> AcceleratorFacts:
    """Facts of an accelerator of a plan, all ``count`` together; the plan's own memory overrides the catalogue's."""
    known = accelerator.name in _CATALOGUE
    tera, gibi, giga = _CATALOGUE.get(accelerator.name, _UNKNOWN)
    each = memory_bytes(accelerator.memory) if accelerator.memory else (gibi * 2**30 or None)
    n = accelerator.count
    return AcceleratorFacts(accelerator.name, tera * 1e12 * n, each * n if each else None, giga * 1e9 * n, known)
