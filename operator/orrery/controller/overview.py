"""Plans and probes of a cluster for whoever looks at them: read with the person's own rights, nothing written."""

from __future__ import annotations

from kubernetes import config

from orrery.controller.server import PLANS, PROBES, UNREADABLE, NotFound, Object, Server, ServerError


def current_namespace() -> str:
    """The namespace of the kubeconfig's current context, as kubectl takes it."""
    try:
        _, active = config.list_kube_config_contexts()
    except UNREADABLE:
        return "default"
    return str(active["context"].get("namespace") or "default")


class Overview:
    """A cluster's plans, as KUBECONFIG (or a Pod's account) may see them."""

    def __init__(self) -> None:
        self._server = Server.connect(2)

    def read(self, namespace: str | None, name: str | None = None) -> tuple[list[Object], list[Object]]:
        """Plans and probes of a namespace, or of all; raises ServerError with a sentence."""
        try:
            if name is not None:
                plans = [self._server.get(PLANS, namespace, name)]
            else:
                plans = list(self._server.list(PLANS, namespace))
        except NotFound as error:
            if name is None:
                raise ServerError(404, "this cluster does not know AdaptationPlans: install the chart first") from None
            raise ServerError(404, f"there is no AdaptationPlan '{name}' in namespace {namespace}: {error}") from None
        return plans, list(self._server.list(PROBES, namespace)) if plans else []
