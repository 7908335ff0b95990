"""A probe that does what its model's family says: measures, hangs, lies, crashes, or is killed. Started as a process."""

import base64
import json
import os
import signal
import sys
import time
from pathlib import Path

import yaml


def result(trial, score="0.75"):
    items = trial["fidelity"]["evaluationItems"]
    right = round(float(score) * items)
    bits = bytearray(-(-items // 8))
    for i in range(right):
        bits[i // 8] |= 0x80 >> (i % 8)
    return {
        "name": trial["name"],
        "outcome": "Measured",
        "score": str(right / items),
        "items": items,
        "bits": base64.b64encode(bytes(bits)).decode(),
        "trainSeconds": "0.001",
    }


def main(spec_path, report_path):
    manifest = yaml.safe_load(Path(spec_path).read_text())
    spec, name = manifest["spec"], manifest["metadata"]["name"]
    behaviour = spec["model"].get("family", "good")
    journal = os.environ.get("STUB_JOURNAL")
    report = {"version": "orrery.dev/report/v1", "probe": name, "complete": False, "trials": []}

    def write(text=None):
        temporary = Path(report_path + ".tmp")
        temporary.write_text(json.dumps(report) if text is None else text)
        temporary.replace(report_path)

    if journal:
        with Path(journal).open("a") as file:
            for trial in spec["trials"]:
                file.write(f"begin {spec['model']['name']} {trial['name']}\n")
    attempt = int(Path(report_path).parent.name.partition("-")[2])
    first = attempt == 1
    if behaviour == "slow":
        time.sleep(float(os.environ.get("STUB_SECONDS", "0.3")))
    while behaviour == "gate" and not Path(os.environ["STUB_GATE"]).exists():
        time.sleep(0.02)
    if behaviour in ("half-then-hang", "half-then-crash", "half-then-killed"):
        report["trials"] = [result(spec["trials"][0])]
        write()
        if first:
            if behaviour == "half-then-crash":
                sys.exit(7)
            if behaviour == "half-then-killed":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
    if behaviour == "hang":
        time.sleep(60)
    if behaviour == "crash":
        sys.exit(3)
    if behaviour == "flaky" and first:
        sys.exit(3)
    if behaviour == "silent":
        return
    report["trials"] = [result(trial) for trial in spec["trials"]]
    report["complete"] = True
    if behaviour == "foreign":
        report["probe"] = "probe-0000000000000000"
    if behaviour == "wrong-data":
        report["taskFacts"] = {"digest": "f" * 64, "trainExamples": 1, "evaluationExamples": 1}
    elif digest := os.environ.get("STUB_DIGEST"):
        report["taskFacts"] = {"digest": digest, "trainExamples": 1, "evaluationExamples": 1}
    if behaviour == "nan":
        report["trials"][0]["score"] = float("nan")
    if behaviour == "above-one":
        report["trials"][0].update(score="1.5", bits=None)
    if behaviour == "false-bits":
        report["trials"][0]["score"] = "0.99"
    if behaviour == "time-traveller":
        report["trials"][0]["trainSeconds"] = "5000"
    if behaviour == "long":
        report["error"] = "x" * 5000
    if behaviour == "garbage":
        write("{'not json")
    elif behaviour == "huge":
        write("[" * 200_000)
    elif behaviour == "no-data":
        report.update(trials=[], complete=True, error="the column 'text' is missing", reason="InvalidData")
        write()
    else:
        write()
    if journal:
        with Path(journal).open("a") as file:
            for trial in spec["trials"]:
                file.write(f"end {spec['model']['name']} {trial['name']}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
