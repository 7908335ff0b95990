"""Stands in for the probe's image where the model is not the point: writes a report that follows from the probe's spec alone.

Only the standard library, so that hundreds start quickly. The model's repository says how it fares: ``sim/ok``, ``sim/sleep-5``
(works that long), ``sim/gate`` (until there is a file ``open`` in its model cache), ``sim/crash``, ``sim/silent``, ``sim/garbage``, ``sim/foreign``, ``sim/partial`` (one trial, then exit code 1).
"""

import base64
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path


def unit(*words):
    """A reproducible number from 0 to 1 for any words."""
    return int(hashlib.sha256(repr(words).encode()).hexdigest()[:12], 16) / 16**12


def quality(model, trial):
    """Grows with shots, examples and rank; differs between models and strategies."""
    p = {q["name"]: str(q["value"]) for q in trial.get("parameters", [])}
    base = 0.35 + 0.3 * unit(model, "base")
    if trial["strategy"] == "ZeroShot":
        return base
    if trial["strategy"] == "InContext":
        return base + (0.93 - base) * (1 - 0.75 ** int(p.get("shots", "1"))) * 0.8
    examples = trial["fidelity"].get("trainingExamples") or 400
    return base + (0.96 - base) * examples / (examples + 60) * (0.9 + 0.1 * unit(sorted(p.items())))


def result(model, trial):
    items = trial["fidelity"]["evaluationItems"]
    right = round(quality(model, trial) * items)
    bits = bytearray(-(-items // 8))
    for i in range(right):
        bits[i // 8] |= 128 >> i % 8
    found = {
        "name": trial["name"],
        "outcome": "Measured",
        "score": str(round(right / items, 6)),
        "items": items,
        "bits": base64.b64encode(bytes(bits)).decode(),
        "evaluationSeconds": "0.02",
        "evaluationFlops": str(items * 10**8),
        "evaluationTokens": items * 20,
        "requestTokens": "20",
        "outputTokens": "2",
    }
    if trial["strategy"] not in ("ZeroShot", "InContext"):
        found |= {"trainSeconds": "0.02", "trainFlops": str(10**10), "trainTokens": 1000}
    return found


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # it is process 1 there, which the kernel would not end
    spec, name = json.loads(os.environ["ORRERY_PROBE_SPEC"]), os.environ["HOSTNAME"].rsplit("-", 2)[0]
    how = spec["model"]["source"]["huggingFace"]["repo"].removeprefix("sim/")
    report = {
        "version": "orrery.dev/report/v1",
        "probe": "probe-0000000000000000" if how == "foreign" else name,
        "complete": how != "partial",
        "loadSeconds": "0.05",
        "totalSeconds": "0.1",
        "modelFacts": {
            "parameters": 10**8,
            "layers": 12,
            "hiddenSize": 512,
            "heads": 8,
            "kvHeads": 8,
            "contextLength": 2048,
        },
        "taskFacts": {
            "digest": "d" * 64,
            "trainExamples": 400,
            "evaluationExamples": 200,
            "labels": 7,
            "chance": "0.142857",
            "inputTokens": "20",
            "exampleTokens": "26",
            "outputTokens": "3",
        },
        "trials": [result(spec["model"]["name"], t) for t in spec["trials"]][: 1 if how == "partial" else None],
    }
    text = "{not json" if how == "garbage" else json.dumps(report)
    if how.startswith("sleep-"):
        time.sleep(float(how.removeprefix("sleep-")))
    while how == "gate" and not Path(os.environ["HF_HOME"]).with_name("open").exists():
        time.sleep(0.05)
    if how not in ("crash", "silent"):
        Path(sys.argv[sys.argv.index("--report") + 1]).write_text(text)
    return 1 if how in ("crash", "partial") else 0


if __name__ == "__main__":
    sys.exit(main())
