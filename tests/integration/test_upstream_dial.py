"""Dials on real sockets: what makes a line ready, what refuses one, and that a failed one leaves nothing behind."""

import asyncio
import gc
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from gateway.core.errors import DialError, Reason
from gateway.core.template import LineClass
from gateway.runtime.ports import DialTimes
from gateway.upstream.account import Account, ApiKey
from gateway.upstream.connection import RealtimeConnection
from gateway.upstream.dialer import DialOptions, RealtimeDialer
from tests.support.ports import free_port
from tests.support.upstream import CREATED, UPDATED, Line, created, nothing, provider
from tests.support.waiting import eventually

KEY = "sk-proj-Q7zW0123456789abcdef"
SESSION: dict[str, Any] = {"type": "realtime", "instructions": "Be kind."}
SECONDS = 5.0
# Long enough for all that answers on this machine.
PATIENT = DialOptions(deadline_seconds=SECONDS, created_seconds=SECONDS)
HURRIED = DialOptions(deadline_seconds=0.3)
on_linux = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are counted in /proc")


def dialer(options: DialOptions = PATIENT) -> RealtimeDialer:
    return RealtimeDialer({"main": Account("main", ApiKey(KEY))}, options)


def line_to(url: str) -> LineClass:
    return LineClass("openai", "openai", url, "secret-model", "realtime", "main")


async def refused(url: str, options: DialOptions = PATIENT, session: dict[str, Any] | None = SESSION) -> DialError:
    with pytest.raises(DialError) as caught:
        await dialer(options).dial(line_to(url), session, DialTimes())
    assert KEY not in str(caught.value)
    assert "secret-model" not in str(caught.value)
    return caught.value


@asynccontextmanager
async def listener(talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """Listen on TCP and nothing more; each connection is aborted after `talk`, and at the end."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(task := asyncio.ensure_future(serve(reader, writer)))
        task.add_done_callback(tasks.discard)

    port = free_port()
    server = await asyncio.start_server(accept, "127.0.0.1", port)
    try:
        yield f"127.0.0.1:{port}/v1/realtime"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Read for ever, answer nothing."""
    while await reader.read(65536):
        pass


# What makes a line ready.


async def test_a_line_is_ready_when_its_configuration_is_confirmed() -> None:
    heard: list[dict[str, Any] | None] = []

    async def welcome(line: Line) -> None:
        await line.say(CREATED)
        heard.append(await line.hear())
        await line.say(UPDATED)

    times = DialTimes()
    async with provider(nothing, welcome=welcome) as url:
        connection = await dialer().dial(line_to(url), SESSION, times)
        await connection.close()
    assert heard == [{"type": "session.update", "event_id": "tl-warm", "session": SESSION}]
    assert list(times.stages) == ["tcp", "upgrade", "created", "updated"]
    assert connection.session_id == "sess_up"


async def test_a_bare_line_is_ready_when_its_session_is_created_and_is_not_configured() -> None:
    heard: list[dict[str, Any] | None] = []

    async def listen(line: Line) -> None:
        heard.append(await line.hear())

    times = DialTimes()
    async with provider(listen, welcome=created) as url:
        connection = await dialer().dial(line_to(url), None, times)
        await connection.send(b'{"type":"input_audio_buffer.clear"}')
        await eventually(lambda: heard, "the first event is there")
        await connection.close()
    assert heard == [{"type": "input_audio_buffer.clear"}]
    assert list(times.stages) == ["tcp", "upgrade", "created"]
    assert connection.session_id == "sess_up"


@pytest.mark.parametrize("identifier", ["", "3f2a9c", "a" * 128])
async def test_the_provider_sees_the_safety_identifier_of_the_line(identifier: str) -> None:
    seen: list[str | None] = []

    async def look(line: Line) -> None:
        seen.append(line.headers.get("OpenAI-Safety-Identifier"))
        await line.say(CREATED)

    async with provider(nothing, welcome=look) as url:
        connection = await dialer().dial(line_to(url), None, DialTimes(), identifier)
        await connection.close()
    assert seen == [identifier or None]


@pytest.mark.parametrize("identifier", ["a" * 129, "a\r\nX-Forged: 1", "ü"])
async def test_a_bad_safety_identifier_is_refused_before_anything_is_dialled(identifier: str) -> None:
    times = DialTimes()
    with pytest.raises(DialError) as caught:
        await dialer().dial(line_to("ws://127.0.0.1:1/v1/realtime"), None, times, safety_identifier=identifier)
    assert caught.value.reason is Reason.SAFETY_IDENTIFIER_REFUSED
    assert times.stages == {}


# What is said while a line is made ready.


def error_event(**error: str | None) -> bytes:
    return json.dumps({"type": "error", "error": {"message": "No.", **error}}).encode()


def saying(*frames: bytes, after_update: bool) -> Callable[[Line], Awaitable[None]]:
    """Return a welcome that says `frames` before `session.created`, or between the update and its answer."""

    async def welcome(line: Line) -> None:
        for frame in () if after_update else frames:
            await line.say(frame)
        await line.say(CREATED)
        await line.hear()
        for frame in frames if after_update else ():
            await line.say(frame)
        await line.say(UPDATED)

    return welcome


@pytest.mark.parametrize("after_update", [False, True])
async def test_what_does_not_concern_the_dial_is_passed_over(*, after_update: bool) -> None:
    frames = (
        error_event(code="invalid_value", event_id="another"),
        error_event(code="rate_limit_exceeded", event_id="another"),
        b'{"type":"something.new"}',
        b"[1]",
        b'{"type":"session.created"}',
    )
    async with provider(nothing, welcome=saying(*frames, after_update=after_update)) as url:
        connection = await dialer().dial(line_to(url), SESSION, DialTimes())
        await connection.close()


@pytest.mark.parametrize("after_update", [False, True])
@pytest.mark.parametrize(
    ("frame", "reason", "code"),
    [
        (error_event(code="invalid_value", event_id="tl-warm"), Reason.CONFIG_REJECTED, "invalid_value"),
        (error_event(code="invalid_value"), Reason.CONFIG_REJECTED, "invalid_value"),
        (error_event(code="insufficient_quota", event_id="x"), Reason.BUDGET_EXHAUSTED, "insufficient_quota"),
        (error_event(code="invalid_api_key", event_id="x"), Reason.UPSTREAM_REFUSED_KEY, "invalid_api_key"),
        (error_event(code="model_not_found", event_id="x"), Reason.UNKNOWN_MODEL, "model_not_found"),
        (error_event(code=None, type="server_error"), Reason.UPSTREAM_CLOSED, "server_error"),
        (b"{garbage", Reason.UPSTREAM_UNREACHABLE, ""),
        (b"[" * 100_000, Reason.UPSTREAM_UNREACHABLE, ""),
    ],
    ids=lambda each: str(each)[:60],
)
async def test_what_concerns_the_dial_refuses_it(
    frame: bytes, reason: Reason, code: str, *, after_update: bool
) -> None:
    async with provider(nothing, welcome=saying(frame, after_update=after_update)) as url:
        error = await refused(url)
    assert (error.reason, error.upstream_code) == (reason, code)


async def test_a_bare_line_is_refused_as_others_are() -> None:
    async def welcome(line: Line) -> None:
        await line.close(3000, "invalid_request_error.invalid_api_key")

    async with provider(nothing, welcome=welcome) as url:
        error = await refused(url, session=None)
    assert (error.reason, error.upstream_code) == (Reason.UPSTREAM_REFUSED_KEY, "invalid_api_key")


# Refusals.


async def test_a_refusal_is_read_with_its_body_and_its_delay() -> None:
    def refuse(_request: web.Request) -> web.Response:
        body = {"error": {"message": f"Pay, {KEY}.", "type": "insufficient_quota", "code": "insufficient_quota"}}
        return web.json_response(body, status=429, headers={"Retry-After": "7"})

    async with provider(nothing, refusal=refuse) as url:
        error = await refused(url)
    assert (error.reason, error.upstream_code) == (Reason.BUDGET_EXHAUSTED, "insufficient_quota")
    assert error.retry_after_seconds is None  # to come back would not help


async def test_a_redirect_is_refused_and_nobody_else_sees_the_key() -> None:
    asked: list[str] = []

    def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.headers["Authorization"])
        return web.Response(status=500)

    async with provider(nothing, refusal=elsewhere) as other:

        def refuse(_request: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": other})

        async with provider(nothing, refusal=refuse) as url:
            error = await refused(url)
    assert (error.reason, error.upstream_code, asked) == (Reason.UPSTREAM_UNREACHABLE, "307", [])


async def test_a_server_that_speaks_no_http_is_named() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"SSH-2.0-x\r\n")
        await writer.drain()
        await hang(reader, writer)

    async with listener(babble) as place:
        error = await refused(f"ws://{place}")
    assert "not HTTP" in error.message


async def test_a_hang_up_in_the_handshake_is_named() -> None:
    async def hang_up(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async with listener(hang_up) as place:
        error = await refused(f"ws://{place}")
    assert error.reason is Reason.UPSTREAM_UNREACHABLE


async def test_a_certificate_that_nobody_vouches_for_is_named() -> None:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(server)
    async with provider(nothing, tls=server) as url:
        error = await refused(url)
    assert error.reason is Reason.UPSTREAM_UNREACHABLE
    assert "certificate is not trusted" in error.message


async def test_a_server_without_tls_is_named() -> None:
    async with provider(nothing) as url:
        error = await refused(url.replace("ws:", "wss:"))
    assert "TLS" in error.message or "broke" in error.message


# Deadlines.


async def test_a_session_that_is_not_created_in_time_has_a_sentence_of_its_own() -> None:
    times = DialTimes()
    async with provider(nothing, welcome=nothing) as url:
        options = DialOptions(deadline_seconds=SECONDS, created_seconds=0.2)
        with pytest.raises(DialError) as caught:
            await dialer(options).dial(line_to(url), SESSION, times)
    assert caught.value.message == "session.created did not come within 0.2 s"
    assert caught.value.reason is Reason.UPSTREAM_UNREACHABLE
    assert list(times.stages) == ["tcp", "upgrade"]


@pytest.mark.heavy
async def test_a_session_has_five_seconds_to_be_created() -> None:
    async with provider(nothing, welcome=nothing) as url:
        began = asyncio.get_running_loop().time()
        error = await refused(url, DialOptions())
        took = asyncio.get_running_loop().time() - began
    assert error.message == "session.created did not come within 5 s"
    assert 4.9 < took < 6.0


def test_a_dial_has_ten_seconds() -> None:
    assert (DialOptions().deadline_seconds, DialOptions().created_seconds) == (10.0, 5.0)


@pytest.mark.parametrize(
    ("scheme", "words"), [("ws", "the answer to the WebSocket handshake"), ("wss", "the TLS handshake")]
)
async def test_a_hanging_handshake_is_given_up_and_named(scheme: str, words: str) -> None:
    async with listener(hang) as place:
        error = await refused(f"{scheme}://{place}", HURRIED)
    assert error.message == f"{words} did not come within 0.3 s"


async def test_a_configuration_that_is_not_confirmed_is_given_up_and_named() -> None:
    async with provider(nothing, welcome=created) as url:
        error = await refused(url, HURRIED)
    assert error.message == "session.updated did not come within 0.3 s"


async def test_hanging_dials_do_not_hold_up_others() -> None:
    """One dialer, twenty dials at once: each second one hangs, in the upgrade, in TLS or before its session."""
    one = dialer(DialOptions())
    async with listener(hang) as mute, provider(nothing, welcome=nothing) as slow, provider(nothing) as good:
        places = (f"ws://{mute}", f"wss://{mute}", slow)
        hanging = [
            asyncio.create_task(one.dial(line_to(places[number % 3]), SESSION, DialTimes())) for number in range(10)
        ]
        times = [DialTimes() for _ in range(10)]
        async with asyncio.timeout(SECONDS):
            ready = await asyncio.gather(*(one.dial(line_to(good), SESSION, each) for each in times))
        assert not any(each.done() for each in hanging)
        assert all(sum(each.stages.values()) < 2.0 for each in times)
        for each in hanging:
            each.cancel()
        await asyncio.wait(hanging)
        await asyncio.gather(*(each.close() for each in ready))


# What is left behind.


def left() -> tuple[Counter[str], Counter[str]]:
    """Count the running tasks by what they run, and the descriptors by their kind."""
    gc.collect()
    tasks = Counter(getattr(each.get_coro(), "__qualname__", "?") for each in asyncio.all_tasks() if not each.done())
    kinds: Counter[str] = Counter()
    for each in Path("/proc/self/fd").iterdir():
        try:
            kinds[str(each.readlink()).partition(":")[0]] += 1
        except FileNotFoundError:
            continue
    return tasks, kinds


async def _rst(line: Line) -> None:
    line.reset()


async def _garbage(line: Line) -> None:
    await line.say(b"{garbage")


async def _gone(line: Line) -> None:
    await line.close(1001)


@on_linux
@pytest.mark.parametrize("welcome", [nothing, created, _rst, _garbage, _gone])
async def test_a_dial_that_fails_on_an_open_line_leaves_nothing_behind(welcome: Callable[[Line], Any]) -> None:
    async with provider(nothing, welcome=welcome) as url:
        before = left()
        await asyncio.gather(*(refused(url, HURRIED) for _ in range(10)))
        await eventually(lambda: left() == before, f"all is as it was: {before}")


@on_linux
@pytest.mark.parametrize("status", [302, 401, 429, 500])
async def test_a_dial_that_is_refused_leaves_nothing_behind(status: int) -> None:
    async with provider(nothing, status=status) as url:
        before = left()
        await asyncio.gather(*(refused(url) for _ in range(10)))
        await eventually(lambda: left() == before, f"all is as it was: {before}")


@on_linux
@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_dial_that_hangs_leaves_nothing_behind(scheme: str) -> None:
    async with listener(hang) as place:
        url = f"{scheme}://{place}"
        before = left()
        await asyncio.gather(*(refused(url, HURRIED) for _ in range(10)))
        await eventually(lambda: left() == before, f"all is as it was: {before}")


@on_linux
async def test_a_dial_that_finds_nobody_leaves_nothing_behind() -> None:
    url = f"ws://127.0.0.1:{free_port()}/v1/realtime"
    error = await refused(url)
    assert "nothing listens" in error.message
    before = left()
    await asyncio.gather(*(refused(url) for _ in range(10)))
    assert left() == before


@on_linux
async def test_a_dial_that_is_cancelled_at_any_moment_leaves_nothing_behind() -> None:
    one = dialer()
    async with provider(nothing) as url:
        before = left()
        ready: list[RealtimeConnection] = []
        for turns in range(60):
            dial = asyncio.create_task(one.dial(line_to(url), SESSION, DialTimes()))
            for _ in range(turns):
                await asyncio.sleep(0)
            dial.cancel()
            await asyncio.wait({dial})
            if not dial.cancelled():
                ready.append(dial.result())
        await asyncio.gather(*(each.close() for each in ready))
        await eventually(lambda: left() == before, f"all is as it was: {before}")
