"""Models and datasets from a hub: the real client against a hub on this machine, and without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orrery.api.probe import Report
from tests.e2e.hub import commit_of, serve
from tests.models.tiny_models import save_tiny
from tests.unit.probes.tasks import pairs

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    model = save_tiny(tmp_path_factory.mktemp("model"))
    (model / "pytorch_model.bin").write_bytes(b"not wanted")
    data = tmp_path_factory.mktemp("data")
    for split, rows in (("train", pairs(12)), ("validation", pairs(6, offset=50))):
        (data / split).mkdir()
        parquet.write_table(pa.Table.from_pylist(rows), data / split / "part.parquet")
    return {"models/me/tiny": model, "datasets/me/texts": data}


def spec(model: str = "me/tiny") -> dict[str, Any]:
    return {
        "model": {"name": "tiny", "source": {"huggingFace": {"repo": model}}},
        "task": {"dataset": {"source": {"huggingFace": {"repo": "me/texts"}}}},
        "accelerator": "cpu",
        "deadlineSeconds": 60,
        "trials": [{"name": "zero", "strategy": "ZeroShot", "fidelity": {"evaluationItems": 6}}],
    }


def clean(home: Path, **environment: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    return {**inherited, "HF_HOME": str(home), **environment}


def probe(spec: dict[str, Any], home: Path, **environment: str) -> Report:
    done = subprocess.run(
        [sys.executable, "-m", "orrery.cli.main", "probe"],
        env=clean(home, ORRERY_PROBE_SPEC=json.dumps(spec), **environment),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Report.model_validate_json(done.stdout)


ASK = """
import json, sys
from orrery.api.models import (Model)
from orrery.api.task import Task
from orrery.probes.data import read_task
from orrery.probes.errors import ProbeError
from orrery.probes.hub import model_folder

for kind, repo, revision in json.loads(sys.argv[1]):
    source = {"huggingFace": {"repo": repo, "revision": revision}}
    try:
        if kind == "model":
            model_folder(Model.model_validate({"name": "m", "source": source}).source.hugging_face)
        else:
            read_task(Task.model_validate({"dataset": {"source": source}}))
        print(json.dumps(["Read", ""]))
    except ProbeError as error:
        print(json.dumps([error.reason, str(error)]))
"""


def ask(home: Path, *questions: tuple[str, str, str], **environment: str) -> list[list[str]]:
    """Reason and sentence of every question."""
    return [json.loads(line) for line in in_a_process(ASK, questions, home, **environment)]


def in_a_process(code: str, argument: Any, home: Path, **environment: str) -> list[str]:
    """Lines that a fresh process writes: the hub's client reads its environment once."""
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(argument)],
        env=clean(home, **environment),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stdout.splitlines()


def test_from_the_hub_then_from_its_cache_without_a_network_and_without_a_home_to_write_to(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    with serve(folders) as (address, requests):
        online = probe(spec(), home, HF_ENDPOINT=address)
        assert not any(path.endswith("pytorch_model.bin") for path in requests), "only what is needed is downloaded"
    assert online.error is None and online.trials[0].score is not None
    # A file where the folder should be: nobody, not even root, can write below it.
    blocked = tmp_path / "file"
    blocked.write_text("")
    offline = probe(spec(), blocked / "home", HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(home / "hub"))
    assert offline.error is None
    assert offline.trials[0].bits == online.trials[0].bits
    assert offline.task_facts is not None and online.task_facts is not None
    assert offline.task_facts.digest == online.task_facts.digest
    for report in (online, offline):
        assert report.model_commit == commit_of("models/me/tiny"), "a branch means a commit, also without a network"
        assert report.task_facts is not None and report.task_facts.commit == commit_of("datasets/me/texts")

    (reason, sentence), (data_reason, _) = ask(
        home, ("model", "me/other", "main"), ("dataset", "me/texts", "v9"), HF_HUB_OFFLINE="1"
    )
    assert reason == "ModelNotFound" and data_reason == "SourceNotFound"
    assert "'me/other' at revision 'main' is not in the cache, and HF_HUB_OFFLINE is set" in sentence


PROBES = """
import json, sys, tempfile
from pathlib import Path
from orrery.api.probe import ProbeSpec
from orrery.probes.runner import run

for spec in json.loads(sys.argv[1]):
    with tempfile.TemporaryDirectory() as folder:
        print(run(ProbeSpec.model_validate(spec), Path(folder) / "report.json").model_dump_json(by_alias=True))
"""


def test_a_pinned_revision_is_what_is_read(folders: dict[str, Path], tmp_path: Path) -> None:
    """Two revisions of models and data: other weights, other texts; what a tag or a commit pins is read and told."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    (old := tmp_path / "old").mkdir()
    parquet.write_table(pa.Table.from_pylist(pairs(10, offset=200)), old / "data.parquet")
    model = save_tiny(tmp_path / "wide", hidden_size=48)
    served, asked = dict(folders), []
    for name, by in (("tagged", "tag"), ("committed", "commit")):
        models, texts = f"models/me/{name}", f"datasets/me/{name}-texts"
        served |= {models: folders["models/me/tiny"], texts: folders["datasets/me/texts"]}
        served |= {f"{models}@v1": model, f"{texts}@v1": old}
        wanted = spec(f"me/{name}")
        wanted["task"]["dataset"]["source"]["huggingFace"]["repo"] = f"me/{name}-texts"
        for source, key in ((wanted["model"]["source"], models), (wanted["task"]["dataset"]["source"], texts)):
            source["huggingFace"]["revision"] = "v1" if by == "tag" else commit_of(f"{key}@v1")
        asked.append(wanted)
    with serve(served) as (address, _):  # both in one fresh process, which takes seconds to start
        said = in_a_process(PROBES, asked, tmp_path / "home", HF_ENDPOINT=address)
    for name, line in zip(("tagged", "committed"), said, strict=True):
        report = Report.model_validate_json(line)
        assert report.error is None and report.model_commit == commit_of(f"models/me/{name}@v1")
        assert report.model_facts is not None and report.model_facts["hiddenSize"] == 48
        assert report.task_facts is not None and report.task_facts.commit == commit_of(f"datasets/me/{name}-texts@v1")
        assert report.task_facts.train_examples + report.task_facts.evaluation_examples == 10


def test_what_the_hub_does_not_have_is_a_sentence(folders: dict[str, Path], tmp_path: Path) -> None:
    served = {**folders, "models/me/gated": folders["models/me/tiny"]}
    with serve(served, gated=frozenset({"models/me/gated"})) as (address, _):
        revision, data_revision, repo, gated = ask(
            tmp_path,
            ("model", "me/tiny", "v9"),
            ("dataset", "me/texts", "v9"),
            ("model", "me/none", "main"),
            ("model", "me/gated", "main"),
            HF_ENDPOINT=address,
        )
    assert revision == [
        "RevisionNotFound",
        "huggingFace.revision is 'v9', which model 'me/tiny' does not have: write one of its commits, tags or branches",
    ]
    assert data_revision[0] == "RevisionNotFound"
    assert data_revision[1].startswith("task.dataset.source.huggingFace.revision is 'v9', which dataset 'me/texts'")
    assert repo[0] == "ModelNotFound" and "'me/none' is no model on the hub, or it is private" in repo[1]
    assert gated[0] == "ModelNotFound" and "is gated: accept its terms on the hub and give a token" in gated[1]


def test_no_hub_at_all(tmp_path: Path) -> None:
    ((reason, sentence),) = ask(tmp_path, ("model", "me/tiny", "main"), HF_ENDPOINT="http://127.0.0.1:9")
    assert reason == "ModelNotFound"
    assert "is not in the cache, and the hub cannot be reached" in sentence
