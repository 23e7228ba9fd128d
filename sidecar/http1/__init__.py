"""HTTP/1.x between two parties that must never disagree: a strict sans-IO scanner and the inspector of one connection.

Pure protocol machines: bytes in, bytes and calls out; no sockets, clock, log or configuration. Owns framing (RFC
9112), the refusal of all that two readers could read in two ways, the removal of fields that only a sidecar may set,
and the order of answers. What a request may do is the judge's to say, which the adapter brings; where the bytes go is
the adapter's.

Reading order: `reasons`, `lines`, `fields`, `framing`, `head`, `body`, `exchange`, `inspector`, then what it stands on:
`outstanding`, `request_side`, `response_side`.
"""

from sidecar.http1.exchange import Exchange, Judge
from sidecar.http1.framing import CHUNKED, UNTIL_CLOSE
from sidecar.http1.head import Heads
from sidecar.http1.inspector import Inspector
from sidecar.http1.reasons import Malformed, MalformedError
from sidecar.http1.verdicts import RequestFields, ResponseFields

__all__ = [
    "CHUNKED",
    "UNTIL_CLOSE",
    "Exchange",
    "Heads",
    "Inspector",
    "Judge",
    "Malformed",
    "MalformedError",
    "RequestFields",
    "ResponseFields",
]
