"""The joining port towards strangers: what they leave half done must not keep others out."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import h2.config
import h2.connection
import h2.events

from ca.joining import add_joining
from controlplane.control.servers import JOINING_LIMITS, ServerLimits, listen, make_server
from ringfence.kit.addresses import SocketAddress
from ringfence.spiffe import TrustBundle, control_plane_dns_name
from ringfence.wire.gen import issuing_pb2 as pb
from ringfence.wire.gen.issuing_pb2_grpc import JoiningStub
from tests.authorities import OpenAuthority
from tests.issuing_backends import TurnedClock

_WAIT_SECONDS = 30.0
_HALF_A_CALL = [
    (":method", "POST"),
    (":scheme", "https"),
    (":path", "/ringfence.issuing.v1.Joining/Join"),
    (":authority", "controlplane"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


@asynccontextmanager
async def joining(folder: Path, limits: ServerLimits) -> AsyncIterator[tuple[SocketAddress, TrustBundle]]:
    """A joining server of a real authority under ``limits``."""
    with OpenAuthority(folder, TurnedClock()) as world:
        svid, bundle = world.authority.issue_control_plane(), world.authority.bundle()
        server = make_server(limits)
        add_joining(server, world.authority)
        pair = (svid.private_key_pem(), svid.chain_pem() + bundle.to_pem())
        address = await listen(server, SocketAddress("127.0.0.1", 0), grpc.ssl_server_credentials([pair]))
        try:
            yield address, bundle
        finally:
            await server.stop(None)


class Stranger:
    """Speaks HTTP/2 by hand: opens ``calls`` calls, sends no request on any, and is still there.

    It is open once one of its calls was refused: the others have then taken all places that the server has.
    """

    def __init__(self, calls: int) -> None:
        self._calls = calls
        self._machine = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))

    async def open(self, address: SocketAddress) -> None:
        anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        anybody.set_alpn_protocols(["h2"])
        self._reader, self._writer = await asyncio.open_connection(address.host, address.port, ssl=anybody)
        self._machine.initiate_connection()
        self._writer.write(self._machine.data_to_send())
        await self._ends()  # its settings, with how many calls it takes
        for _ in range(self._calls):
            self._machine.send_headers(self._machine.get_next_available_stream_id(), _HALF_A_CALL)
        self._writer.write(self._machine.data_to_send())
        while not (ends := await self._ends()):
            pass
        assert ends == [str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])]

    async def _ends(self) -> list[str]:
        """The gRPC statuses of calls that ended with what comes next."""
        chunk = await self._reader.read(65_536)
        assert chunk
        answers = (h2.events.ResponseReceived, h2.events.TrailersReceived)
        events = [event for event in self._machine.receive_data(chunk) if isinstance(event, answers)]
        return [str(value, "ascii") for event in events for name, value in event.headers if name == b"grpc-status"]

    async def wait_for_the_end(self) -> None:
        """Say nothing more, and wait until the server has had enough."""
        while await self._reader.read(65_536):
            pass
        self._writer.close()


async def challenged(address: SocketAddress, bundle: TrustBundle) -> bool:
    """Whether a sidecar that wants to join is answered."""
    options = [
        ("grpc.ssl_target_name_override", control_plane_dns_name(bundle.trust_domain)),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    credentials = grpc.ssl_channel_credentials(bundle.to_pem())
    async with grpc.aio.secure_channel(str(address), credentials, options=options) as channel:
        try:
            await JoiningStub(channel).Challenge(pb.ChallengeRequest(host_key_id="ab" * 32), timeout=_WAIT_SECONDS)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            return False
        return True


async def test_calls_that_are_never_finished_do_not_lock_others_out(tmp_path: Path) -> None:
    limits = replace(JOINING_LIMITS, calls=2, streams_a_connection=3, connection_seconds=3.0, last_call_seconds=0.5)
    async with joining(tmp_path, limits) as (address, bundle), asyncio.timeout(_WAIT_SECONDS):
        assert await challenged(address, bundle)
        stranger = Stranger(calls=3)
        await stranger.open(address)
        while not await challenged(address, bundle):
            pass
        await stranger.wait_for_the_end()


def test_all_connections_together_cannot_use_up_all_calls() -> None:
    assert JOINING_LIMITS.connections * JOINING_LIMITS.streams_a_connection <= JOINING_LIMITS.calls
    assert JOINING_LIMITS.connection_seconds is not None
