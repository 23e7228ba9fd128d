"""What the three HTTP apps share: JSON over HTTP/1.1 with kept-alive connections, from the standard library."""

import contextlib
import json
import os
import re
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class UpstreamError(Exception):
    """An upstream, or the mesh on the way to it, did not answer with a 2xx."""


def call(address, method, path, body=None):
    """One request to "host:port", a local port of this app's own sidecar; the JSON that came back."""
    connection = HTTPConnection(address, timeout=10)
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None)
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    if response.status >= 300:
        raise UpstreamError(f"{method} {path}: {response.status} {text}")
    return json.loads(text)


def caller(headers):
    """The SPIFFE ID that the sidecar verified, from the header that only the sidecar can have put there."""
    found = re.search(r"(?:^|;)URI=([^;,]+)", headers.get("x-forwarded-client-cert", ""))
    return found.group(1) if found else "nobody"


def serve(routes):
    """Serve {(method, path pattern): function(request, *groups) -> (status, JSON)} on $HOST:$PORT for ever."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self):
            with contextlib.suppress(ConnectionError):  # the caller went away
                super().handle()

        def answer(self):
            length = int(self.headers.get("content-length", 0))
            self.body = json.loads(self.rfile.read(length) or b"{}")
            status, reply = 404, {"error": "no such page"}
            for (method, pattern), function in routes.items():
                found = re.fullmatch(pattern, self.path.partition("?")[0])
                if found and method == self.command:
                    try:
                        status, reply = function(self, *found.groups())
                    except (UpstreamError, OSError) as error:
                        status, reply = 502, {"error": str(error)}
            text = json.dumps(reply).encode() + b"\n"
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 (the names that the standard library looks for)

        def log_message(self, *_):
            pass  # the sidecar's log tells it

    place = os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"])
    ThreadingHTTPServer(place, Handler).serve_forever()
