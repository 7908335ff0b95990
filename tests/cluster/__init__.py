"""A real Kubernetes API server, controllers, scheduler and a process kubelet for the tests; see README.md."""

from tests.cluster.cluster import Cluster, KubeletHandle
from tests.cluster.external import ExternalCluster
from tests.cluster.options import KubeletOptions, Options
from tests.cluster.programs import ClusterError, programs

__all__ = ["Cluster", "ClusterError", "ExternalCluster", "KubeletHandle", "KubeletOptions", "Options", "programs"]
