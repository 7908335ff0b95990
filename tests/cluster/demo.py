"""`python -m tests.cluster.demo PLAN`: the whole product on a real Kubernetes, from an empty cluster to an answer.

The chart is rendered by Helm and applied, its Deployment runs the operator as a Pod with the chart's own account, `kubectl
apply` asks the question, and real models answer it in Jobs. Needs `orrery assets fetch` before; leaves nothing running.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import helm_python as helm

from tests.cluster import Cluster, Options
from tests.cluster.decision import FurtherProbe, decided_locally, differences
from tests.cluster.programs import REPOSITORY, ClusterError, programs

CLAIM = "orrery-assets"
SYSTEM = "orrery-system"


def main(arguments: list[str] | None = None) -> int:
    """Runs the demonstration; 0 when the plan was answered, and as `orrery run` answers it on the same measurements."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.demo", description=__doc__)
    parser.add_argument("plan", type=Path, nargs="?", default=REPOSITORY / "examples" / "intents" / "plan.yaml")
    parser.add_argument("--seconds", type=float, default=1500, help="give up after this long (default %(default)s)")
    chosen = parser.parse_args(arguments)
    try:
        programs()
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="orrery-demo-") as folder, Cluster(folder, Options()) as cluster:
        return _Demo(cluster).answer(chosen.plan, chosen.seconds)


class _Demo:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.begun = cluster, time.monotonic()

    def answer(self, plan: Path, seconds: float) -> int:
        self.say("a real Kubernetes runs: etcd, API server, controllers, scheduler and one node")
        self.kubectl("create", "namespace", SYSTEM)
        self.assets()
        applied = self.kubectl("apply", "--validate=false", "-f", "-", text=chart({"probe": {"assetsClaim": CLAIM}}))
        self.say(f"the chart is applied: {len(applied.splitlines())} objects")
        self.kubectl("-n", SYSTEM, "wait", "--for=condition=Available", "deployment/orrery", "--timeout=120s")
        self.say("the operator runs as a Pod")
        self.kubectl("apply", "-f", str(plan))
        begun = time.monotonic()
        self.say(f"kubectl apply -f {plan}")
        name = self.kubectl("get", "aplan", "-o", "jsonpath={.items[0].metadata.name}")
        shown, found = "", {}
        while time.monotonic() - begun < seconds:
            found = json.loads(self.kubectl("get", "aplan", name, "-o", "json"))
            row = self.kubectl("get", "aplan", name, "--no-headers").rsplit(None, 1)[0]
            if row != shown:
                shown = row
                self.say(row)
            said = {c["type"]: c["status"] for c in found.get("status", {}).get("conditions", [])}
            if said.get("Ready") == "True" or said.get("Stalled") == "True":
                break
            time.sleep(1)
        return self.report(name, found, time.monotonic() - begun)

    def report(self, name: str, found: dict[str, Any], seconds: float) -> int:
        print(self.kubectl("get", "aplan,aprobe,jobs"))
        status = found.get("status", {})
        best, spend, progress = (status.get(k) or {} for k in ("recommendation", "spend", "progress"))
        if not best:
            print(self.kubectl("describe", "aplan", name))
            print(self.kubectl("-n", SYSTEM, "logs", "deployment/orrery", "--tail=40"))
            return 1
        setting = ", ".join(f"{c['name']} {c['value']}" for c in best["configuration"])
        print(f"answer: {best['model']} with {best['strategy']} ({setting}): {best['message']}")
        print(
            f"{progress['succeeded']} probes in {seconds:.0f} s cost {spend['cost']} {spend['currency']}, "
            f"{spend.get('savedPercent', '0')} % less than measuring every candidate in full"
        )
        return 0 if self.decided_the_same(found) and status["phase"] == "Answered" else 1

    def decided_the_same(self, plan: dict[str, Any]) -> bool:
        """Whether `orrery run` decides the same on the reports of the cluster's probes; it says so."""
        probes = json.loads(self.kubectl("get", "aprobe", "-o", "json"))["items"]
        prices = json.loads(
            self.kubectl("get", "pricelist", plan["spec"]["pricing"]["priceListRef"]["name"], "-o", "json")
        )
        with tempfile.TemporaryDirectory(prefix="orrery-demo-") as folder:
            try:
                found = differences(plan["status"], decided_locally(plan, probes, prices, Path(folder)))
            except FurtherProbe as error:
                found = [str(error)]
        if found:
            print("`orrery run` decides otherwise on the same reports:", *found, sep="\n  ")
        else:
            print(f"`orrery run` decides the same on the reports of these {len(probes)} Jobs, to the last digit")
        return not found

    def assets(self) -> None:
        """The builtin models and tasks as a volume, as a cluster's administrator would fill it once."""
        source = Path(os.environ.get("ORRERY_CACHE") or Path.home() / ".cache" / "orrery")
        if not (source / "builtin").is_dir():
            raise SystemExit(f"{source / 'builtin'} is not there: run `orrery assets fetch` first")
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": CLAIM, "namespace": "default"},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        self.kubectl("apply", "-f", "-", text=json.dumps(claim))
        shutil.copytree(
            source / "builtin", self.cluster.volume("default", CLAIM) / "builtin", dirs_exist_ok=True, symlinks=True
        )

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        command = [self.cluster.programs.kubectl, "--kubeconfig", str(self.cluster.kubeconfig), *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=180, check=False)
        if done.returncode:
            raise SystemExit(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done.stdout.strip()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.begun:6.1f} s  {text}", flush=True)


def chart(values: dict[str, Any]) -> str:
    """The chart as Helm renders it, notes left out."""
    with helm.Chart.load(str(REPOSITORY / "charts" / "orrery")) as loaded:
        loaded.validate_schema(values)
        rendered = loaded.render(values, name="orrery", namespace=SYSTEM)
    return "\n---\n".join(text for path, text in sorted(rendered.items()) if not path.endswith(".txt") and text.strip())


if __name__ == "__main__":
    sys.exit(main())
