"""Models and datasets from the Hugging Face hub: offline when told so, with caches that may be read-only.

``HF_HUB_OFFLINE=1`` is respected: nothing is asked over the network and what is not in the cache is refused with a
sentence. When ``HF_HOME`` cannot be written to (weights mounted read-only), downloads of models are still read from
there, and everything that the libraries must write goes to a temporary folder.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

from orrery.api.sources import HuggingFaceSource
from orrery.probes.errors import DataError, ModelError, ProbeError
from orrery.probes.tables import Row

#: What a model needs; other formats of the same weights (onnx, gguf, original checkpoints) are left on the hub.
MODEL_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken"]


def prepare() -> None:
    """Point the hub's libraries to folders they can write; call before they are imported."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface").expanduser()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if _writable(home):
        return
    scratch = Path(tempfile.gettempdir()) / f"orrery-huggingface-{os.getuid()}"
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    cached = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    # A read-only hub cache is of use only for what is already in it: keep reading it if there is one.
    os.environ["HF_HUB_CACHE"] = str(cached if cached.is_dir() else scratch / "hub")
    os.environ["HF_HOME"] = str(scratch)


def model_folder(source: HuggingFaceSource) -> Path:
    """A folder with the model's files at that revision, downloaded or from the cache.

    Raises ``ModelError`` (``ModelNotFound``, ``RevisionNotFound``).
    """
    return _snapshot(source, "model", ModelError, "ModelNotFound", MODEL_FILES)


def commit_of(folder: Path) -> str | None:
    """Commit of a snapshot in the hub's cache, which is its folder's name; None for any other folder.

    >>> commit_of(Path("hub/models--me--tiny/snapshots/0c8b4f3f2bd1e6bd7b7bb6b2bd1dcf3bb4e1d0a9"))
    '0c8b4f3f2bd1e6bd7b7bb6b2bd1dcf3bb4e1d0a9'
    >>> commit_of(Path("models/tiny"))
    """
    return folder.name if folder.parent.name == "snapshots" and re.fullmatch("[0-9a-f]{40,64}", folder.name) else None


def read_dataset(source: HuggingFaceSource) -> tuple[dict[str, list[Row]], str | None]:
    """Rows of every split of a dataset, and the commit that was read; integer class labels become their names.

    Raises ``DataError`` (``SourceNotFound``, ``RevisionNotFound``, ``UnreadableFile``, ``MissingPackage``).
    """
    prepare()
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            "MissingPackage", "task.dataset.source.huggingFace needs datasets: pip install 'orrery[probe]'"
        ) from error
    datasets.disable_progress_bars()
    # The whole repository by snapshot, not by name: one code path online and offline, and one word on what is missing.
    try:
        folder = _snapshot(source, "dataset", DataError, "SourceNotFound", None)
    except DataError as error:
        raise DataError(error.reason, f"task.dataset.source.{error}") from error
    try:
        loaded = datasets.load_dataset(str(folder), source.config)
    except Exception as error:  # the library raises dozens of types, its own and pyarrow's
        raise DataError(
            "UnreadableFile",
            f"task.dataset.source.huggingFace.repo '{source.repo}' cannot be read"
            + (f" in the configuration '{source.config}'" if source.config else "")
            + f": {_first_line(error)}",
        ) from error
    return {str(name): _named(split) for name, split in loaded.items()}, commit_of(folder)


def _named(split: Any) -> list[Row]:
    rows: list[Row] = split.to_list()
    classes = {column: feature.names for column, feature in split.features.items() if hasattr(feature, "int2str")}
    for row in rows:
        for column, names in classes.items():
            value = row[column]
            row[column] = names[value] if isinstance(value, int) and 0 <= value < len(names) else None
    return rows


def _snapshot(
    source: HuggingFaceSource, kind: str, error_type: type[ProbeError], not_found: str, files: list[str] | None
) -> Path:
    prepare()
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise error_type("MissingPackage", "huggingFace needs huggingface_hub: pip install 'orrery[probe]'") from error
    where = f"huggingFace.repo '{source.repo}'"
    try:
        return Path(snapshot_download(source.repo, repo_type=kind, revision=source.revision, allow_patterns=files))
    except RevisionNotFoundError as error:
        raise error_type(
            "RevisionNotFound",
            f"huggingFace.revision is '{source.revision}', which {kind} '{source.repo}' does not have: "
            "write one of its commits, tags or branches",
        ) from error
    except GatedRepoError as error:
        raise error_type(
            not_found, f"{where} is gated: accept its terms on the hub and give a token (spec.hfTokenSecretRef)"
        ) from error
    except RepositoryNotFoundError as error:
        raise error_type(
            not_found, f"{where} is no {kind} on the hub, or it is private: write OWNER/NAME, or give a token"
        ) from error
    except LocalEntryNotFoundError as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        raise error_type(
            not_found,
            f"{where} at revision '{source.revision}' is not in the cache, and "
            + ("HF_HUB_OFFLINE is set" if offline else "the hub cannot be reached")
            + ": download it first, or use a pvc, local or builtin source",
        ) from error
    except Exception as error:  # connection errors of whichever client the hub's library uses
        raise error_type(not_found, f"{where} cannot be downloaded: {_first_line(error)}") from error


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
