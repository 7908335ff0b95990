"""A process kubelet: a node whose Pods are local processes of this machine; see tests/cluster/README.md for what it does and does not."""
