"""Keeps the control plane and the cluster told of each other.

``documents`` and ``statuses`` are pure: what a custom resource says, and what is written back to it. ``watching`` keeps
copies of all that the mesh is read from; ``settling`` gathers bursts; ``offering`` makes readings and offers them;
``leading`` is the lease by which one replica alone does what must be single: ``writing`` (statuses), ``webhooks``
(``caBundle``); ``serving`` renews the certificate of this replica's own webhook server; ``pods_waiting`` finds what a
pod waits for (pure), ``telling`` has it told, ``notices`` has it told what of a Service or pod is too much, and
``events`` tells people on their objects. May import ``k8s.client``, ``k8s.translate``, ``k8s.admission``,
``k8s.attest`` and ``ringfence``.
"""
