"""What is spoken on a port: as ``appProtocol`` says, else as the port's name begins, else found out. Pure."""

from __future__ import annotations

from typing import Final

from ringfence.snapshot import Protocol

_OPAQUE: Final = (
    *("tcp", "tls", "https", "wss", "ssl", "kubernetes.io/wss", "mysql", "mariadb", "postgres", "postgresql", "redis"),
    *("mongo", "mongodb", "kafka", "amqp", "amqps", "mqtt", "ldap", "ldaps", "smtp", "ssh", "cassandra", "zookeeper"),
)
_WORDS: Final = {
    "http": Protocol.HTTP,
    "ws": Protocol.HTTP,
    "kubernetes.io/ws": Protocol.HTTP,
    "http2": Protocol.HTTP2,
    "h2c": Protocol.HTTP2,
    "kubernetes.io/h2c": Protocol.HTTP2,
    "grpc": Protocol.GRPC,
    **dict.fromkeys(_OPAQUE, Protocol.TCP),
}
_NUMBERS: Final = {5432: Protocol.TCP, 3306: Protocol.TCP, 6379: Protocol.TCP, 27017: Protocol.TCP}
"""Of databases whose server speaks first or whose ports are rarely named: nothing is to be found out on them."""


def protocol_of(port: int, name: str, app_protocol: str = "") -> Protocol:
    """Of a port by its number, its name, and what is said of it; what nobody says is AUTO."""
    said = _WORDS.get(app_protocol.lower())
    if said is not None:
        return said
    word = name.lower().partition("-")[0]
    return _WORDS.get(word) or _NUMBERS.get(port, Protocol.AUTO)
