"""An issued SVID as the wire says it."""

from __future__ import annotations

from ca.desk import IssuingDesk
from ca.issue import IssuedSvid
from ringfence.wire.gen import issuing_pb2


def svid_response(desk: IssuingDesk, svid: IssuedSvid) -> issuing_pb2.SvidResponse:
    """The reply, with the authority's time in it, so that a caller can tell how far its own clock is off."""
    return issuing_pb2.SvidResponse(
        spiffe_id=str(svid.spiffe_id),
        chain=svid.chain,
        roots=desk.roots,
        not_before=svid.not_before,
        not_after=svid.not_after,
        ca_time=desk.clock.now(),
    )
