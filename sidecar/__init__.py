"""The proxy beside every workload: inbound, outbound, the tunnel, the inspectors, the identity it holds.

Imports ``ringfence`` and nothing of ``ca``, ``controlplane`` or ``k8s``. Read it from ``sidecar/app.py``.
"""
