"""The mesh transport: many byte streams in one mutual-TLS HTTP/2 connection between two sidecars (HBONE).

``machine`` and ``stream`` are sans-IO; ``link`` ties a machine to a TLS engine and a TCP transport; ``pool`` keeps the
outbound links. Data goes on to the relays in ``sidecar.relay``, ``sidecar.inbound_http`` and ``sidecar.outbound_http``.
"""
