"""A real Kubernetes for tests: API server, controllers, scheduler, kubelet, containerd, kube-proxy and DNS, all built
from pinned sources, running in namespaces of its own on this machine and gone without a trace.

`build.py` makes the programs and keeps them outside the checkout; `machine.py` makes what a node runs in; `cluster.py`
starts all; `__main__.py` is the same for developers (`python -m tests.cluster up`).
"""
