"""A token issuer over TLS for tests: what it publishes, what it answers, and what it is asked, are the test's."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trustme
from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(kw_only=True)
class LocalIssuer:
    """Listens on ``localhost``; ``ca_file`` vouches for it. ``keys`` is served at ``/keys``."""

    port: int
    ca_file: Path
    keys: str | bytes = ""
    answer: Answer | None = None
    """In the place of the key set."""
    introspect: Callable[[dict[str, str]], Awaitable[web.StreamResponse]] | None = None
    asked: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/keys"

    @property
    def introspection_url(self) -> str:
        return f"https://localhost:{self.port}/introspect"


@asynccontextmanager
async def local_issuer(
    folder: Path, *, tls: bool = True, port: int = 0, host: str = "localhost"
) -> AsyncIterator[LocalIssuer]:
    """One that runs; its CA's certificate lies in ``folder``, and is the same for the next one there."""
    ca_file, server_file = folder / "issuer-ca.pem", folder / "issuer.pem"
    if not ca_file.exists():
        authority = trustme.CA()
        authority.cert_pem.write_to_path(ca_file)
        authority.issue_cert(host).private_key_and_cert_chain_pem.write_to_path(server_file)
    issuer = LocalIssuer(port=port, ca_file=ca_file)

    async def keys(request: web.Request) -> web.StreamResponse:
        issuer.asked.append(str(request.rel_url))
        if issuer.answer is not None:
            return await issuer.answer(request)
        keys = issuer.keys.encode() if isinstance(issuer.keys, str) else issuer.keys
        return web.Response(body=io.BytesIO(keys), content_type="application/json")

    async def introspect(request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        issuer.tokens.append(form.get("token", ""))
        issuer.authorizations.append(request.headers.get("authorization", ""))
        assert issuer.introspect is not None
        return await issuer.introspect(form)

    application = web.Application()
    application.router.add_get("/keys", keys)
    application.router.add_post("/introspect", introspect)
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server_file)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=context)
    await site.start()
    issuer.port = runner.addresses[0][1]
    try:
        yield issuer
    finally:
        await runner.cleanup()
        # Its TLS connections end with what their peers say last, of which the loop must hear before it is closed.
        await asyncio.sleep(0.1)


async def never(_: object) -> web.StreamResponse:
    """An answer that does not come."""
    await asyncio.Event().wait()
    raise AssertionError
