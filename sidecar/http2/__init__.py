"""HTTP/2 (RFC 9113): the frame layer that the tunnel and the inspector stand on, and the inspector of one application
connection.

Pure protocol machines: bytes in, bytes and calls out; no sockets, log or configuration, and the clock is a parameter.
Owns framing, header compression, flow control and the refusal of all that two readers could read in two ways. What a
request may do is the judge's to say, which the adapter brings; where the bytes go is the adapter's.

Reading order: `frames`, `guard`, `reasons`, then headers: `table`, `block`, `literal`, `fields`, `head`, `heads`, then
the connection: `exchange`, `messages`, `answer`, `mediation`, `reading`, `direction`, `request_side`, `response_side`,
`streams`, `inspector`.
"""

from sidecar.http2.answer import Answer
from sidecar.http2.exchange import Exchange, Judge
from sidecar.http2.head import RequestHead, ResponseHead
from sidecar.http2.heads import Heads
from sidecar.http2.inspector import Inspector
from sidecar.http2.literal import literal
from sidecar.http2.reasons import Broken, Malformed

__all__ = [
    "Answer",
    "Broken",
    "Exchange",
    "Heads",
    "Inspector",
    "Judge",
    "Malformed",
    "RequestHead",
    "ResponseHead",
    "literal",
]
