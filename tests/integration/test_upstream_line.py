"""A line that is ready, on a real socket: how it ends, how it answers a ping, what nobody has read."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.core.errors import Reason, UpstreamClosedError
from gateway.core.template import LineClass
from gateway.runtime.ports import DialTimes
from gateway.upstream.account import Account, ApiKey
from gateway.upstream.connection import RealtimeConnection
from gateway.upstream.dialer import DialOptions, RealtimeDialer
from tests.support.upstream import Line, nothing, provider
from tests.support.waiting import eventually

KEY = "sk-proj-Q7zW0123456789abcdef"
SECONDS = 5.0
# Long for an answer on this machine, short for one that does not come.
NO_ANSWER_SECONDS = 0.3
# What the library holds before it stops reading, in `DialOptions`; twice that fills it for certain.
MANY = 2 * DialOptions().queue_max_messages
EVENT = b'{"type":"rate_limits.updated","rate_limits":[]}'


@asynccontextmanager
async def ready(script: Callable[[Line], Awaitable[None]]) -> AsyncIterator[RealtimeConnection]:
    accounts = {"main": Account("main", ApiKey(KEY))}
    async with provider(script) as url:
        line = LineClass("openai", "openai", url, "m", "realtime", "main")
        connection = await RealtimeDialer(accounts, DialOptions()).dial(line, {"type": "realtime"}, DialTimes())
        try:
            yield connection
        finally:
            await connection.close()


async def end(connection: RealtimeConnection) -> UpstreamClosedError:
    """Return how the line ends; every call on it must tell the same."""
    async with asyncio.timeout(SECONDS):
        with pytest.raises(UpstreamClosedError) as caught:
            await connection.receive()
        for again in (connection.receive(), connection.send(EVENT), connection.ping()):
            with pytest.raises(UpstreamClosedError) as later:
                await again
            assert later.value.message == caught.value.message
        # For the log, so without the words of the provider, which may be a caller's.
        assert caught.value.message.startswith(await connection.wait_closed())
        assert not await connection.has_unread()
    assert KEY not in caught.value.message
    return caught.value


# Ends.


@pytest.mark.parametrize(
    ("code", "retryable"),
    [
        (1000, True),
        (1001, True),
        (1002, False),
        (1003, False),
        (1007, False),
        (1008, False),
        (1009, False),
        (1010, True),
        (1011, True),
        (1012, True),
        (1013, True),
        (1014, True),
        (3000, False),
        (3001, True),
        (4000, False),
        (4321, True),
        (4999, True),
    ],
)
async def test_an_end_that_nobody_asked_for_is_a_drop_with_its_code(code: int, *, retryable: bool) -> None:
    async def hang_up(line: Line) -> None:
        await line.close(code, f"bye from 10.1.2.3 to {KEY}")

    async with ready(hang_up) as connection:
        error = await end(connection)
    assert (error.upstream_code, error.retryable) == (str(code), retryable)
    assert "10.1.2.3" not in error.message


async def test_an_empty_close_frame_is_a_drop() -> None:
    async def hang_up(line: Line) -> None:
        line.write(b"\x88\x00")

    async with ready(hang_up) as connection:
        error = await end(connection)
    assert (error.upstream_code, error.reason) == ("1005", Reason.UPSTREAM_CLOSED)


async def test_a_reset_is_a_drop() -> None:
    async def hang_up(line: Line) -> None:
        line.reset()

    async with ready(hang_up) as connection:
        error = await end(connection)
    assert (error.upstream_code, error.reason) == ("1006", Reason.UPSTREAM_CLOSED)


async def test_a_key_that_is_refused_after_the_upgrade_is_named_by_the_close_reason() -> None:
    async def hang_up(line: Line) -> None:
        await line.close(1011, "invalid_request_error.invalid_api_key")

    async with ready(hang_up) as connection:
        error = await end(connection)
    assert (error.upstream_code, error.reason) == ("invalid_api_key", Reason.UPSTREAM_REFUSED_KEY)


@pytest.mark.parametrize(
    "frame",
    [
        *(b"\x88\x02" + code.to_bytes(2, "big") for code in (999, 1004, 1005, 1006, 1015, 1016, 2999)),
        b"\x83\x00",  # an opcode that is reserved
        b"\x81\x80\x00\x00\x00\x00",  # masked, as only a client does
    ],
)
async def test_a_frame_that_is_against_the_protocol_is_laid_on_the_provider(frame: bytes) -> None:
    async def babble(line: Line) -> None:
        line.write(frame)

    async with ready(babble) as connection:
        error = await end(connection)
    assert error.reason is Reason.UPSTREAM_CLOSED
    assert "the provider broke the WebSocket protocol" in error.message


async def test_a_message_past_our_limit_is_said_to_be_past_our_limit() -> None:
    async def shout(line: Line) -> None:
        line.write(b"\x81\x7f" + (DialOptions().message_max_bytes + 1).to_bytes(8, "big"))

    async with ready(shout) as connection:
        error = await end(connection)
    assert error.reason is Reason.INTERNAL
    assert "too large for this gateway" in error.message


async def test_what_was_said_before_an_end_is_still_read() -> None:
    async def say_and_go(line: Line) -> None:
        await line.say(EVENT)
        await line.close(1001)

    async with ready(say_and_go) as connection:
        async with asyncio.timeout(SECONDS):
            await connection.wait_closed()
            assert await connection.has_unread()
            assert await connection.receive() == EVENT
        assert (await end(connection)).upstream_code == "1001"


async def test_a_close_of_our_own_is_not_laid_on_the_provider() -> None:
    async with ready(nothing) as connection:
        await connection.close()
        error = await end(connection)
    assert (error.upstream_code, error.message) == ("", "this gateway closed the connection (own close code 1000)")


async def test_a_close_that_is_cancelled_leaves_no_open_socket() -> None:
    async def freeze(line: Line) -> None:
        line.freeze()

    async with ready(freeze) as connection:
        closing = asyncio.create_task(connection.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait({closing})
        assert closing.cancelled()
        async with asyncio.timeout(SECONDS):
            await connection.wait_closed()


# Pings.


async def test_a_ping_returns_when_the_other_side_has_answered() -> None:
    async with ready(nothing) as connection:
        async with asyncio.timeout(SECONDS):
            await connection.ping()
            await asyncio.gather(*(connection.ping() for _ in range(20)))
        assert not connection._socket.pending_pings


async def test_a_ping_to_a_frozen_peer_does_not_return_and_a_cancelled_one_leaves_nothing_behind() -> None:
    async def freeze(line: Line) -> None:
        line.freeze()
        await line.say(EVENT)

    async with ready(freeze) as connection:
        assert await connection.receive() == EVENT
        before = len(asyncio.all_tasks())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(NO_ANSWER_SECONDS):
                await connection.ping()
        pings = [asyncio.create_task(connection.ping()) for _ in range(500)]
        await eventually(lambda: len(connection._socket.pending_pings) == 500, "they are sent")
        for each in pings:
            each.cancel()
        await asyncio.wait(pings)
        assert all(each.cancelled() for each in pings)
        assert not connection._socket.pending_pings
        assert len(asyncio.all_tasks()) == before
        connection._socket.transport.abort()


async def test_a_ping_that_is_cancelled_while_it_is_written_leaves_nothing_behind() -> None:
    async def freeze(line: Line) -> None:
        line.freeze()
        await line.say(EVENT)

    async with ready(freeze) as connection:
        assert await connection.receive() == EVENT

        async def fill() -> None:
            while True:
                await connection.send(b'"' + b"A" * (1 << 20) + b'"')

        filling = asyncio.create_task(fill())
        await eventually(lambda: connection._socket.paused, "nothing more can be written")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(NO_ANSWER_SECONDS):
                await connection.ping()
        assert not connection._socket.pending_pings
        filling.cancel()
        await asyncio.wait({filling})
        connection._socket.transport.abort()


async def test_a_late_answer_to_a_ping_that_was_given_up_does_no_harm() -> None:
    async with ready(nothing) as connection:
        given_up = asyncio.create_task(connection.ping())
        await asyncio.sleep(0)  # no more: the answer is quick
        assert connection._socket.pending_pings
        given_up.cancel()
        async with asyncio.timeout(SECONDS):
            await connection.ping()
        assert given_up.cancelled()


async def test_a_ping_on_a_line_that_is_lost_meanwhile_says_so() -> None:
    lost = asyncio.Event()

    async def freeze(line: Line) -> None:
        line.freeze()
        await lost.wait()
        line.reset()

    async with ready(freeze) as connection:
        pinging = asyncio.create_task(connection.ping())
        await eventually(lambda: connection._socket.pending_pings, "it is sent")
        lost.set()
        with pytest.raises(UpstreamClosedError) as caught:
            await asyncio.wait_for(pinging, SECONDS)
    assert caught.value.upstream_code == "1006"


async def test_an_answer_stands_behind_events_that_nobody_reads() -> None:
    """So silence is the deadline's matter only on a line that is read, or on one that is idle."""

    async def talk(line: Line) -> None:
        for _ in range(MANY):
            await line.say(EVENT)

    async with ready(talk) as connection:
        await eventually(lambda: connection._socket.recv_messages.paused, "the library has stopped reading")
        pinging = asyncio.create_task(connection.ping())
        await asyncio.wait({pinging}, timeout=NO_ANSWER_SECONDS)
        assert not pinging.done()
        async with asyncio.timeout(SECONDS):
            for _ in range(MANY):
                await connection.receive()
            await pinging


@pytest.mark.heavy
async def test_a_healthy_peer_is_not_killed_by_a_consumer_that_pauses() -> None:
    """The library's own keepalive did that, with 1011; here the pause is longer than any patience of a ping."""

    async def talk(line: Line) -> None:
        for _ in range(MANY):
            await line.say(EVENT)

    async with ready(talk) as connection:
        await eventually(lambda: connection._socket.recv_messages.paused, "the library has stopped reading")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(6.0):
                await connection.wait_closed()
        async with asyncio.timeout(SECONDS):
            for _ in range(MANY):
                assert await connection.receive() == EVENT
            await connection.ping()


async def test_the_librarys_own_keepalive_is_off() -> None:
    async with ready(nothing) as connection:
        assert connection._socket.ping_interval is None
        assert connection._socket.keepalive_task is None


# What nobody has read.


async def test_what_nobody_has_read_is_seen_and_not_lost() -> None:
    said = asyncio.Event()

    async def talk(line: Line) -> None:
        await said.wait()
        await line.say(EVENT)
        await line.say(b'{"type":"second"}')

    async with ready(talk) as connection, asyncio.timeout(SECONDS):
        for _ in range(3):
            assert not await connection.has_unread()
        said.set()
        while not await connection.has_unread():
            pass
        assert await connection.has_unread()
        assert await connection.receive() == EVENT
        assert await connection.receive() == b'{"type":"second"}'
        assert not await connection.has_unread()


async def test_asking_for_unread_events_all_the_time_loses_none() -> None:
    async def talk(line: Line) -> None:
        for number in range(MANY):
            await line.say(b"%d" % number)
            await asyncio.sleep(0)

    read: list[bytes] = []
    async with ready(talk) as connection, asyncio.timeout(SECONDS):
        while len(read) < MANY:
            if await connection.has_unread():
                read.append(await connection.receive())
    assert read == [b"%d" % number for number in range(MANY)]


async def test_a_part_of_an_event_is_not_one_yet_and_is_not_lost() -> None:
    rest = asyncio.Event()

    async def talk(line: Line) -> None:
        line.write(b'\x01\x05{"a":')
        await rest.wait()
        line.write(b"\x80\x021}")

    async with ready(talk) as connection, asyncio.timeout(SECONDS):
        await eventually(lambda: len(connection._socket.recv_messages.frames), "the first part is there")
        assert not await connection.has_unread()
        rest.set()
        while not await connection.has_unread():
            pass
        assert await connection.receive() == b'{"a":1}'
