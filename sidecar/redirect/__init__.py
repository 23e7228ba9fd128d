"""Transparent interception: rules that send a workload's TCP connections to its sidecar, and where they meant to go.

``original_destination`` is for the proxy's listeners and is all that the proxy needs. The rest is for the commands
(``ringfence redirect``), for an init container and for a CNI plugin: settings become rules by pure functions
(``settings.py`` -> ``nftables.py``, ``iptables.py``), which the backends hand to the packet filter's own programs
(``operations.py`` -> ``nft_backend.py``, ``iptables_backend.py`` -> ``tools.py``). Imports nothing of the rest of
``sidecar``.
"""

from __future__ import annotations

from sidecar.redirect.destination import original_destination

__all__ = ["original_destination"]
