"""gRPC calls to the control plane, without grpcio: that costs a process 20 MB and ten threads.

From pure to adapter: ``status``, ``messages``, ``methods``; ``stream`` and ``machine`` (sans-IO, over the frames of
``sidecar.http2``); ``call`` and ``connection`` (asyncio). TLS is ``sidecar.tls``, so servers are verified as peers are.
"""

from __future__ import annotations

from sidecar.rpc.call import Call
from sidecar.rpc.connection import Connection, Limits, connected
from sidecar.rpc.methods import Method, method
from sidecar.rpc.status import RpcError, Status, StatusCode

__all__ = [
    "Call",
    "Connection",
    "Limits",
    "Method",
    "RpcError",
    "Status",
    "StatusCode",
    "connected",
    "method",
]
