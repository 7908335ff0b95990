"""A simulated probe: sleeps a little and reports what a real one could have measured; or fails, as its own name decides.

The kubelet of the tests runs it as the probe image's entry point, so it takes `probe --report PATH` and ORRERY_PROBE_SPEC as the real one
does. Standard library only: it starts in a fraction of the time, and hundreds of them run.

The same probe reports the same scores at every attempt, whoever runs it: a measurement that is repeated after an interruption says what
it would have said without.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

#: How an attempt ends, in percent; the rest ends well. A second or later attempt fails by itself half as often.
ENDINGS = (("crash", 5), ("garbage", 4), ("oom", 3), ("hang", 2), ("partial", 4), ("foreign", 3), ("silent", 3))


def unit(*words: object) -> float:
    """A reproducible number from 0 to 1 for any words."""
    return int(hashlib.sha256("\0".join(map(str, words)).encode()).hexdigest()[:12], 16) / 16**12


def ending(seed: str, probe: str, attempt: int) -> str:
    """How this attempt of this probe ends.

    >>> {ending("1", f"probe-{i}", 1) for i in range(300)} == {"ok", *(name for name, _ in ENDINGS)}
    True
    """
    drawn = 100 * unit(seed, probe, attempt, "ending") * (1 if attempt == 1 else 2)
    for name, percent in ENDINGS:
        drawn -= percent
        if drawn < 0:
            return name
    return "ok"


def results(spec: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
    """A score a trial, by model, strategy, configuration and fidelity alone."""
    model = json.dumps(spec["model"]["source"], sort_keys=True)
    found = []
    for trial in spec["trials"]:
        items = min(trial["fidelity"]["evaluationItems"], 200)
        how = json.dumps([trial["strategy"], trial["parameters"], trial["fidelity"], trial["seed"]], sort_keys=True)
        right = round(items * (0.3 + 0.3 * unit(model) + 0.35 * unit(model, how)))
        found.append(
            {
                "name": trial["name"],
                "outcome": "Measured",
                "score": f"{right / items:.6f}",
                "items": items,
                "evaluationSeconds": f"{seconds / len(spec['trials']):.3f}",
                "evaluationFlops": "1000000000",
            }
        )
    return found


def report(spec: dict[str, Any], probe: str, seconds: float) -> dict[str, Any]:
    """A whole report, as orrery.api.probe.Report has it."""
    task = hashlib.sha256(json.dumps(spec["task"], sort_keys=True).encode()).hexdigest()
    return {
        "version": "orrery.dev/report/v1",
        "probe": probe,
        "complete": True,
        "loadSeconds": "0.1",
        "totalSeconds": f"{seconds + 0.1:.3f}",
        "taskFacts": {
            "digest": task,
            "trainExamples": 400,
            "evaluationExamples": 200,
            "labels": 7,
            "chance": "0.142857",
            "inputTokens": "20",
            "exampleTokens": "26",
            "outputTokens": "3",
        },
        "trials": results(spec, seconds),
    }


def main() -> int:
    """Play the attempt that the Pod's name tells: PROBE-ATTEMPT-SUFFIX."""
    path = os.environ.get("TERMINATION_MESSAGE_PATH") or sys.argv[sys.argv.index("--report") + 1]
    spec = json.loads(os.environ["ORRERY_PROBE_SPEC"])
    probe, attempt = (os.environ.get("HOSTNAME") or socket.gethostname()).rsplit("-", 2)[:2]
    seed = os.environ.get("ORRERY_CHAOS_SEED", "0")
    seconds = float(os.environ.get("ORRERY_CHAOS_SECONDS", "1")) * (0.5 + unit(seed, probe, "seconds"))
    how = ending(seed, probe, int(attempt))
    said = report(spec, probe, seconds)
    time.sleep(seconds)
    if how == "crash":
        return 1
    if how == "silent":
        return 0
    if how == "oom":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        time.sleep(3600)
    if how == "partial":
        said |= {"complete": False, "trials": said["trials"][: len(said["trials"]) // 2]}
    if how == "foreign":
        said["probe"] = "probe-0000000000000000"
    Path(path).write_text("{not JSON" if how == "garbage" else json.dumps(said))
    return 1 if how == "partial" else 0


if __name__ == "__main__":
    sys.exit(main())
