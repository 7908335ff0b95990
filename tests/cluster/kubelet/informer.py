"""List, then watch, for ever: the objects at one path as events, with deletions found again after a broken watch."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable

from tests.cluster.kubelet.objects import now
from tests.cluster.rest import ApiError, Json, Rest


def follow(rest: Rest, path: str, handle: Callable[[str, Json], None]) -> None:
    """Calls handle("ADDED" | "MODIFIED" | "DELETED", object) for ever. An object that was gone from a new list is DELETED."""
    known: dict[str, Json] = {}

    def tell(kind: str, item: Json) -> None:
        uid = item["metadata"]["uid"]
        if kind == "DELETED":
            known.pop(uid, None)
        else:
            known[uid] = item
        handle(kind, item)

    while True:
        try:
            listed = rest.get(path)
            present = {item["metadata"]["uid"] for item in listed["items"]}
            for uid in [uid for uid in known if uid not in present]:
                tell("DELETED", known[uid])
            for item in listed["items"]:
                tell("MODIFIED" if item["metadata"]["uid"] in known else "ADDED", item)
            version = listed["metadata"]["resourceVersion"]
            while True:
                for kind, item in rest.watch(path, version):
                    version = item["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK":
                        tell(kind, item)
        except (OSError, http.client.HTTPException, ApiError) as error:
            print(now(), f"watch of {path}:", error, flush=True)
            time.sleep(0.3)
