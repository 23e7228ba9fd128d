"""Ringfence's ground floor: the words and rules that every part shares.

Nothing in this package opens a socket or reads the environment, except ``kit`` (runtime parts without domain words)
and the command line in ``cli``. It imports none of ``ca``, ``controlplane``, ``sidecar`` or ``k8s``.
"""

__version__ = "0.1.0"
