"""Which relay carries a connection to a port of the workload, by what it speaks. Adapter."""

from __future__ import annotations

from ringfence.snapshot import Port, Protocol
from sidecar import forwarded, proxy_v2
from sidecar.caller import Caller
from sidecar.detections import Detections
from sidecar.direct import DirectEnd
from sidecar.first_bytes import Spoken
from sidecar.inbound_detection import AnyInbound, DetectionOwner, HttpInbound, InboundDetection, declared_or_chosen
from sidecar.inbound_http import InboundHttpRelay
from sidecar.inbound_http2 import InboundHttp2Relay
from sidecar.inbound_relay import InboundRelay
from sidecar.recording import Recorder
from sidecar.relay import RelayFacts
from sidecar.tunnel.stream import Stream


class InboundRelays:
    """Makes them for ``owner``, who registers them."""

    def __init__(self, owner: DetectionOwner, recorder: Recorder, own_id: str) -> None:
        self._owner = owner
        self._recorder = recorder
        self._own_id = own_id
        self._detections = Detections(recorder)
        self._heads = forwarded.http1_heads()
        self._heads2 = forwarded.http2_heads()

    def speaks_http2(self, port: Port) -> bool:
        """Whether HTTP/2 was the last that connections to this port of protocol ``auto`` have spoken."""
        return self._detections.hint(port.port) is Spoken.HTTP2

    def made(
        self, stream: Stream | DirectEnd, port: Port, caller: Caller, facts: RelayFacts, remote: tuple[str, int]
    ) -> AnyInbound:
        """A relay of ``stream``, which it gets its bytes from."""
        facts.port, facts.protocol = port.port, declared_or_chosen(port, stream)
        facts.address = caller.address
        relay: AnyInbound
        if facts.protocol is Protocol.AUTO:
            relay = InboundDetection(self._owner, facts, caller, port, self._detections)
        elif facts.protocol is Protocol.TCP:
            relay = InboundRelay(self._owner, facts, caller, port)
            if isinstance(stream, Stream):
                stream.takes_views = True
            if port.proxy_protocol:
                relay.preamble = proxy_v2.header(remote, (port.address, port.port), str(caller.spiffe_id or ""))
        else:
            relay = self._of_http(facts, caller, port, http2=facts.protocol is not Protocol.HTTP)
        relay.stream = stream
        stream.endpoint = relay
        return relay

    def after(self, before: InboundDetection, spoken: Spoken) -> HttpInbound:
        """What goes on where ``before`` has found HTTP."""
        relay = self._of_http(before.facts, before.caller, before.app_port, http2=spoken is Spoken.HTTP2)
        if isinstance(relay, InboundHttp2Relay):
            relay.name_protocol = True
        return relay

    def _of_http(self, facts: RelayFacts, caller: Caller, port: Port, *, http2: bool) -> HttpInbound:
        if http2:
            heads2 = self._heads2[port.forwarded_for]
            return InboundHttp2Relay(self._owner, facts, caller, port, heads2, self._recorder, self._own_id)
        heads = self._heads[port.forwarded_for]
        return InboundHttpRelay(self._owner, facts, caller, port, heads, self._recorder, self._own_id)
