"""The node's CNI plugin: puts the redirect into a pod's network before any of its containers runs.

So no container of a pod needs a capability, and a namespace may be held to Pod Security ``restricted``. ``request``
reads what the container runtime asks, ``wanted`` says what a pod needs (both pure), ``asking`` finds the pod,
``network`` enters its network, ``plugin`` does one call, and ``install`` puts it all onto a node. A pod that should be
redirected and cannot be does not start.
"""
