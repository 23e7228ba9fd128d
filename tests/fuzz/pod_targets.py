"""What a sidecar in a pod is given: probes as they are declared, what an app answers one, a file of name servers."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from typing import Final

from sidecar.probes.asking import Answer, NoAnswerError, followed, read_answer, request_of
from sidecar.probes.model import HttpProbe
from sidecar.probes.reading import ProbesError, read_probes
from sidecar.resolvers import resolvers_in
from tests.fuzz.target import Target, expect, in_pieces

_REQUEST: Final = re.compile(rb"GET /[!-~]* HTTP/1\.1\r\n(?:[^\r\n:]+: [^\r\n]*\r\n)+\r\n")


def probes(data: bytes) -> None:
    """Read, or refused with a line for each problem; what is asked is one GET of what was declared, and no redirect
    leads anywhere else."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = read_probes(text)
    except ProbesError as error:
        expect(error.problems and not any("\n" in problem for problem in error.problems), error.problems)
        return
    expect(len({probe.path for probe in found}) == len(found), "two probes are asked for by one path")
    for probe in found:
        expect(0 < probe.does.port < 65536 and probe.timeout_seconds > 0, probe)
        if isinstance(probe.does, HttpProbe):
            asked = request_of(probe.does, probe.does.target, "10.0.0.7:1")
            expect(_REQUEST.fullmatch(asked) is not None, asked)
            for _, value in probe.does.headers:
                led = followed("http://10.0.0.7:1", probe.does.target, value.encode())
                expect(led is None or re.fullmatch(r"/[!-~]*", led[0]) is not None, led)


class _Answers:
    """What an app answers a probe: the same whatever the cuts, and read no further than its bound."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def judge(self, data: bytes) -> None:
        whole, cut = (self._loop.run_until_complete(self._read(data, size)) for size in (0, 1))
        if whole is not None and cut is not None:
            expect((whole.status, whole.location) == (cut.status, cut.location), f"cuts show: {whole} {cut}")

    async def _read(self, data: bytes, size: int) -> Answer | None:
        reader = asyncio.StreamReader()
        for piece in in_pieces(data, size):
            reader.feed_data(piece)
            await asyncio.sleep(0)
        reader.feed_eof()
        try:
            answer = await read_answer(reader)
        except NoAnswerError as error:
            expect("\n" not in str(error), "the error is no line")
            return None
        expect(0 <= answer.status <= 999, answer.status)
        return answer


def resolvers(data: bytes) -> None:
    """At most three addresses, in their one form."""
    found = resolvers_in(data.decode("latin-1"))
    expect(len(found) <= 3 and len(set(found)) == len(found), found)
    expect(all(str(ipaddress.ip_address(one)) == one for one in found), found)


TARGETS: Final = (
    Target(name="probes", run=probes),
    Target(name="probe_answer", run=_Answers().judge, limit_bytes=1024),
    Target(name="resolvers", run=resolvers),
)
