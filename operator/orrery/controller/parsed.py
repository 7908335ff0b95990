"""Manifests that were parsed already: a plan is looked at a dozen times before it changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

from orrery.api.base import API_VERSION, ApiModel
from orrery.api.load import parse_model
from orrery.controller.server import Object
from orrery.controller.world import Key, key_of

M = TypeVar("M", bound=ApiModel)


class Parsed(Generic[M]):
    """The latest ``most`` objects of a kind, parsed; safe to call from any thread, and what it gives is not to be changed."""

    def __init__(self, kind: type[M], most: int) -> None:
        self._kind, self._most = kind, most
        self._known: OrderedDict[Key, tuple[Object, M]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, body: Object) -> M:
        """The object without its status, parsed anew if anything else of it has changed. Raises ManifestError.

        What an older self wrote to the status must not make a plan invalid; it is read apart.
        """
        key, bare = key_of(body), _bare(body, self._kind.__name__)
        with self._lock:
            known = self._known.get(key)
            if known is not None and known[0] == bare:
                self._known.move_to_end(key)
                return known[1]
        made = parse_model(self._kind, bare)
        with self._lock:
            self._known[key] = bare, made
            self._known.move_to_end(key)
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return made


def _bare(body: Object, kind: str) -> Object:
    # every write of a status makes a new version, which nobody asks a parsed object for
    meta = {k: v for k, v in body["metadata"].items() if k not in ("resourceVersion", "managedFields")}
    return {
        **{k: v for k, v in body.items() if k != "status"},
        "metadata": meta,
        "apiVersion": API_VERSION,
        "kind": kind,
    }
