"""The HTTP/2 splitter between hyper-h2 ends, which check all that they are sent: any interleaving of calls over several
endpoints conserves headers and bodies, and how the bytes were cut never shows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count

import h2.exceptions
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.http2.frames import goaway
from tests.http2_ends import FORBIDDEN, IDENTITY, IDENTITY_NAME, IDENTITY_VALUE, bytewise
from tests.property.test_http2_properties import CALLS, Call, Side, pieces, refused
from tests.split_ends import App, Web

NUMBER = b"x-call"


class Spread:
    """All calls at once, in an order that chance decides; each says its number, by which its endpoint knows it."""

    def __init__(self, calls: list[Call], chance: random.Random, **kwargs: object) -> None:
        seconds = count()  # no flood, however many frames: each has a second of its own
        self.web = Web(refuses=refused, inserted=IDENTITY, monotonic=lambda: float(next(seconds)), **kwargs)  # type: ignore[arg-type]
        self.web.client.increment_flow_control_window(100_000)
        self.chance = chance
        self.calls = {2 * index + 1: call for index, call in enumerate(calls)}
        self.waiting = list(self.calls)
        self.uploads: dict[int, Side] = {}
        self.downloads: dict[int, tuple[App, int, Side]] = {}
        self.gone: set[int] = set()
        self.refused_once: set[int] = set()

    def run(self) -> None:
        self.web.pump()
        moves = [self._ask, self._upload, self._reply, self._download, self._end_early]
        idle = 0
        while idle < 3:
            moved = False
            for move in self.chance.sample(moves, len(moves)):
                moved |= move()
                if self.chance.random() < 0.5:
                    self.web.pump()
            self.web.pump()
            idle = 0 if moved else idle + 1

    def arrived(self) -> dict[int, tuple[App, int]]:
        """Where each call is now: the app, and the stream there."""
        found = {}
        for app in self.web.apps:
            for stream_id, fields in app.requests.items():
                if stream_id not in app.resets:
                    found[int(dict(fields)[NUMBER])] = (app, stream_id)
        return found

    def _pick(self, among: Iterable[int]) -> int | None:
        left = sorted(among)
        return self.chance.choice(left) if left else None

    def _ask(self) -> bool:
        if not self.waiting:
            return False
        number = self.waiting.pop(0)
        call = self.calls[number]
        end = not call.upload and not call.trailers
        fields = [*call.head, *call.forged, (NUMBER, b"%d" % number)]
        self.web.client.send_headers(number, fields, end_stream=end)
        if not end:
            self.uploads[number] = Side(call.upload, call.trailers)
        return True

    def _upload(self) -> bool:
        number = self._pick(n for n, side in self.uploads.items() if not side.done and n not in self.gone)
        return number is not None and self._send(self.uploads[number], self.web.client, number)

    def _reply(self) -> bool:
        arrived = self.arrived()
        number = self._pick(n for n in arrived if n not in self.downloads and n not in self.gone)
        if number is None:
            return False
        call = self.calls[number]
        app, stream_id = arrived[number]
        if call.fate == "app refuses" and number not in self.refused_once:
            self.refused_once.add(number)
            _try(lambda: app.end.reset_stream(stream_id, 7))
            app.resets[stream_id] = 7
            return True
        end = not call.download and not call.response_trailers
        fields = [(b":status", call.status), *call.response_fields]
        if not _try(lambda: app.end.send_headers(stream_id, fields, end_stream=end)):
            self.gone.add(number)
            return True
        side = Side(call.download, call.response_trailers)
        side.done = end
        self.downloads[number] = (app, stream_id, side)
        return True

    def _download(self) -> bool:
        number = self._pick(n for n, (_, _, side) in self.downloads.items() if not side.done and n not in self.gone)
        if number is None:
            return False
        app, stream_id, side = self.downloads[number]
        return self._send(side, app.end, stream_id)

    def _send(self, side: Side, end: object, stream_id: int) -> bool:
        moved = False

        def step() -> None:
            nonlocal moved
            moved = side.step(end, stream_id)  # type: ignore[arg-type]

        if not _try(step):
            side.done = True
            return True
        return moved

    def _end_early(self) -> bool:
        arrived = self.arrived()
        number = self._pick(
            n
            for n in arrived
            if self.calls[n].fate in ("client resets", "app resets", "revoked") and n not in self.gone
        )
        if number is None or self.chance.random() < 0.5:
            return False
        self.gone.add(number)
        fate = self.calls[number].fate
        app, stream_id = arrived[number]
        if fate == "client resets":
            _try(lambda: self.web.client.reset_stream(number, 8))
        elif fate == "app resets":
            _try(lambda: app.end.reset_stream(stream_id, 2))
        else:
            exchange = next(each for each in self.web.exchanges if each.stream_id == number)
            self.web.splitter.revoke(exchange, FORBIDDEN)
        return True


def _try(act: Callable[[], object]) -> bool:
    """What a stream that was reset meanwhile does not take any more is not sent."""
    try:
        act()
    except (h2.exceptions.StreamClosedError, h2.exceptions.ProtocolError):
        return False
    return True


def check_all_arrived(talk: Spread) -> None:
    web = talk.web
    assert web.flaws == []
    arrived = talk.arrived()
    for number, call in talk.calls.items():
        if call.path == b"/secret":
            assert number not in arrived
            assert web.responses[number][0] == (b":status", b"403")
            continue
        if number in talk.gone:
            continue
        app, stream_id = arrived[number]
        assert app.requests[stream_id] == [*call.head, (NUMBER, b"%d" % number), (IDENTITY_NAME, IDENTITY_VALUE)]
        assert app.uploads[stream_id] == b"".join(call.upload)
        assert app.trailers.get(stream_id, []) == call.trailers
        assert stream_id in app.ended
        assert web.responses[number] == [(b":status", call.status), *call.response_fields]
        assert web.downloads[number] == b"".join(call.download)
        assert web.trailers.get(number, []) == call.response_trailers
        assert number in web.ended
    names = Counter(event[0] for event in web.events)
    assert names["request"] == names["done"] == len(talk.calls)
    assert web.splitter.idle
    assert web.chooser.open_count == 0
    client = web.splitter._client
    assert (client.held_bytes, client.kept_bytes, client.withheld_bytes) == (0, 0, 0)
    assert not client.waiting
    web.client.ping(b"12345678")
    for app in web.by_leg.values():
        app.end.ping(b"12345678")
    web.pump()
    assert not web.splitter.close_after


SOME = st.one_of(
    CALLS, CALLS.map(lambda call: Call(**{**call.__dict__, "fate": "app refuses", "upload": call.upload[:1]}))
)


@settings(max_examples=60, deadline=None)
@given(st.lists(SOME, min_size=1, max_size=8), st.randoms(use_true_random=False), st.booleans(), st.integers(1, 4))
def test_any_interleaving_over_any_endpoints_conserves_headers_and_bodies(
    calls: list[Call], chance: random.Random, fragmented: bool, endpoints: int
) -> None:
    kwargs = {"chunk": pieces(chance)} if fragmented else {}
    if endpoints == 1:
        calls = [Call(**{**call.__dict__, "fate": "served"}) for call in calls]
    talk = Spread(calls, chance, count=endpoints, **kwargs)
    talk.run()
    check_all_arrived(talk)
    if not talk.gone:  # every window is whole again, but for what is given back later
        assert talk.web.splitter._client.window + talk.web.splitter._client.owed_bytes == 1024 * 1024
        for leg in talk.web.by_leg:
            assert leg.window + leg.owed_bytes == 1024 * 1024


@settings(max_examples=30, deadline=None)
@given(st.lists(SOME, min_size=1, max_size=5), st.integers(0, 1 << 30))
def test_how_the_bytes_were_cut_never_shows(calls: list[Call], seed: int) -> None:
    calls = [
        Call(
            **{
                **call.__dict__,
                "upload": [body[:400] for body in call.upload],
                "download": [b[:400] for b in call.download],
            }
        )
        for call in calls
    ]
    seen = []
    for chunk in (lambda data: [data], bytewise):
        talk = Spread(calls, random.Random(seed), chunk=chunk)
        talk.run()
        web = talk.web
        apps = [(app.requests, app.uploads, app.trailers, app.resets) for app in web.apps]
        seen.append((web.events, apps, web.responses, web.downloads, web.trailers, web.resets))
    assert seen[0] == seen[1]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(SOME, min_size=1, max_size=5),
    st.randoms(use_true_random=False),
    st.sampled_from([1, 7, 1000, 65_535, 200_000]),
    st.sampled_from([1, 50, 65_535, 200_000]),
    st.sampled_from([0, 100, 4096]),
    st.sampled_from([16_384, 30_000, 1 << 20]),
    st.sampled_from([1, 2, 100]),
)
def test_any_settings_of_the_ends_hold(
    calls: list[Call],
    chance: random.Random,
    client_window: int,
    server_window: int,
    table: int,
    frame: int,
    streams: int,
) -> None:
    """Small and large windows, tables, frames and stream limits, changed in the middle: hyper-h2 finds no fault."""
    small = [
        Call(
            **{**call.__dict__, "upload": [b[:200] for b in call.upload], "download": [b[:200] for b in call.download]}
        )
        for call in calls
    ]
    talk = Spread(
        small,
        chance,
        server_settings={
            SettingCodes.INITIAL_WINDOW_SIZE: server_window,
            SettingCodes.HEADER_TABLE_SIZE: table,
            SettingCodes.MAX_CONCURRENT_STREAMS: streams,
        },
    )
    web = talk.web
    ask = talk._ask
    changed = [False]

    def ask_and_change() -> bool:
        if not changed[0]:
            changed[0] = True
            web.client.update_settings(
                {SettingCodes.INITIAL_WINDOW_SIZE: client_window, SettingCodes.HEADER_TABLE_SIZE: table}
            )
            for app in web.by_leg.values():
                app.end.update_settings({SettingCodes.MAX_FRAME_SIZE: frame, SettingCodes.INITIAL_WINDOW_SIZE: 65_535})
        return ask()

    talk._ask = ask_and_change  # type: ignore[method-assign]
    talk.run()
    check_all_arrived(talk)


class Losing(Spread):
    """Endpoints go away in the middle, with a word or without."""

    lost = 0

    def run(self) -> None:
        download = self._download

        def download_or_lose() -> bool:
            legs = list(self.web.by_leg)
            if legs and self.lost < 4 and self.chance.random() < 0.15:
                self.lost += 1
                leg = self.chance.choice(legs)
                if self.chance.random() < 0.5:
                    self.web.splitter.leg_lost(leg, "lost")
                else:
                    app = self.web.by_leg[leg]
                    last = self.chance.choice([0, *app.requests])
                    self.web.splitter.from_leg(leg, goaway(last, 0))
                    for stream_id in [stream_id for stream_id in app.requests if stream_id > last]:
                        app.resets[stream_id] = 7  # it will not begin with these
                self.web.pump()
                return True
            return download()

        self._download = download_or_lose  # type: ignore[method-assign]
        super().run()


@settings(max_examples=40, deadline=None)
@given(st.lists(CALLS, min_size=1, max_size=8), st.randoms(use_true_random=False), st.integers(1, 4))
def test_every_call_is_answered_once_whoever_goes_away(
    calls: list[Call], chance: random.Random, endpoints: int
) -> None:
    calls = [Call(**{**call.__dict__, "fate": "served"}) for call in calls]
    talk = Losing(calls, chance, count=endpoints)
    talk.run()
    web = talk.web
    names = Counter(event[0] for event in web.events)
    assert names["request"] == len(calls)
    open_still = {exchange.stream_id for exchange in web.splitter.outstanding()}
    assert names["done"] == len(calls) - len(open_still)
    for number, call in talk.calls.items():
        if number in open_still or call.path == b"/secret":
            continue
        status = dict(web.responses.get(number, [])).get(b":status")
        if status == call.status and number in web.ended:
            assert web.downloads[number] == b"".join(call.download)
        else:
            assert status in (b"502", b"503", call.status) or number in web.resets
    web.splitter.cut()
    assert web.chooser.open_count == 0
    client = web.splitter._client
    assert (client.held_bytes, client.kept_bytes) == (0, 0)
