"""Faults of the socket: opened late or never, closed, frozen. Each shows where it is set and nowhere else."""

import asyncio
import contextlib
import json
import time

import pytest
import uvloop
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.simulator import fault_from_text, speech
from tests.support.waiting import eventually
from tests.unit.simulator.peer import (
    DEADLINE_SECONDS,
    GREET,
    QUIET_SECONDS,
    assert_untouched,
    code_of,
    dial,
    simulator,
    totals,
)


async def test_a_late_upgrade() -> None:
    async with simulator("connect-delay:ms=300,count=1") as running:
        start = time.monotonic()
        async with dial(running):
            assert time.monotonic() - start >= 0.3
        await assert_untouched(running)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_a_refused_upgrade(status: int) -> None:
    async with simulator(f"handshake:status={status},retry_after=7,count=1") as running:
        with pytest.raises(InvalidStatus) as refused:
            async with dial(running):
                pytest.fail("accepted")
        response = refused.value.response
        assert (response.status_code, response.headers["Retry-After"]) == (status, "7")
        assert json.loads(response.body or b"")["error"]["message"]
        await assert_untouched(running)


async def test_an_upgrade_that_is_never_answered() -> None:
    async with simulator("handshake-hang:count=1") as running:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS), dial(running):
                pytest.fail("accepted")
        await assert_untouched(running)
        await eventually(lambda: totals(running)["refused"] == 1, "the hung request is given up")


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, 3000, 4000])
async def test_a_close_with_its_code_and_reason(code: int) -> None:
    async with simulator(f"close:code={code},reason=as asked,count=1") as running:
        async with dial(running) as peer:
            kinds, closed = await peer.end()
            assert kinds == ["session.created"]
            assert closed.rcvd is not None
            assert (closed.rcvd.code, closed.rcvd.reason) == (code, "as asked")
        await assert_untouched(running)


@pytest.mark.parametrize("code", [0, 1005])
async def test_a_close_without_a_code(code: int) -> None:
    async with simulator(f"close:code={code},count=1") as running:
        async with dial(running) as peer:
            _, closed = await peer.end()
            assert closed.rcvd is not None
            assert closed.rcvd.code == 1005
        await assert_untouched(running)


async def test_a_reset_without_a_close_frame() -> None:
    async with simulator("close:code=1006,count=1") as running:
        async with dial(running) as peer:
            kinds, closed = await peer.end()
            assert kinds == ["session.created"]
            assert closed.rcvd is None
            assert isinstance(closed.__cause__, ConnectionResetError)
        await assert_untouched(running)


@pytest.mark.parametrize(
    ("at", "last"),
    [
        ("created", "session.created"),
        ("updated", "session.updated"),
        ("speech-started", "input_audio_buffer.speech_started"),
        ("response-created", "response.created"),
        ("first-audio", "response.output_audio.delta"),
        ("response-done", "response.done"),
    ],
)
async def test_a_close_at_each_moment(at: str, last: str) -> None:
    async with simulator(f"close:at={at},count=1") as running:
        async with dial(running) as peer:
            with contextlib.suppress(ConnectionClosed):
                await peer.send({"type": "session.update", "session": {"type": "realtime"}})
                await peer.say(speech.questions()[0])
            kinds, closed = await peer.end()
            assert (kinds[-1], kinds.count(last), code_of(closed)) == (last, 1, 1011)
        await assert_untouched(running)


async def test_a_close_after_some_seconds_and_at_once() -> None:
    async with simulator("close:at=after-seconds:0.2,count=1") as running:
        start = time.monotonic()
        async with dial(running) as peer:
            assert (await peer.end())[0] == ["session.created"]
            assert time.monotonic() - start >= 0.2
        running.set_faults([fault_from_text("close:at=now,count=1")])
        async with dial(running) as peer:
            assert (await peer.end())[0] == []
        await assert_untouched(running)


async def test_a_half_open_socket_takes_everything_and_gives_nothing() -> None:
    async with simulator("half-open:at=created,count=1") as running:
        async with dial(running) as peer:
            await peer.until("session.created")
            assert not await peer.answers_pings(QUIET_SECONDS)
            await peer.send(GREET)
            assert await peer.quiet()
            (seen,) = running.connections()
            assert (seen["state"], seen["faults"]) == ("open", ["half-open"])
            await assert_untouched(running)
        # Its caller has given up: that is noticed although nothing is read.
        await eventually(lambda: totals(running)["open"] == 0, "the frozen socket is gone")


async def test_a_frozen_socket_can_still_be_reset() -> None:
    async with simulator("half-open:count=1", "close:code=1006,at=after-seconds:0.3,count=1") as running:
        async with dial(running) as peer:
            await peer.until("session.created")
            assert (await peer.end())[0] == []
        await eventually(lambda: totals(running)["open"] == 0, "the frozen socket is gone")
        await assert_untouched(running)


def test_sockets_freeze_and_are_reset_on_the_command_s_loop_as_well() -> None:
    async def both() -> None:
        async with simulator("half-open:count=1") as running:
            async with dial(running) as peer:
                await peer.until("session.created")
                assert not await peer.answers_pings(QUIET_SECONDS)
            await eventually(lambda: totals(running)["open"] == 0, "the frozen socket is gone")
            running.set_faults([fault_from_text("close:code=1006,at=created,count=1")])
            async with dial(running) as peer:
                _, closed = await peer.end()
                assert isinstance(closed.__cause__, ConnectionResetError)
            await assert_untouched(running)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(both())


async def test_a_session_expires_when_it_is_told_to() -> None:
    async with simulator("expire:seconds=0.3,count=1") as running:
        async with dial(running) as peer:
            (created,) = await peer.until("session.created")
            assert created["session"]["expires_at"] - time.time() < 2
            (error,) = await peer.until("error")
            assert error["error"]["code"] == "session_expired"
            _, closed = await peer.end()
            assert code_of(closed) == 1001
        await assert_untouched(running)


async def test_an_idle_socket_is_closed_and_a_busy_one_is_not() -> None:
    async with simulator("idle-close:seconds=0.6,code=1000,count=1") as running:
        async with dial(running) as peer:
            start = time.monotonic()
            await peer.until("session.created")
            while time.monotonic() - start < 1.0:
                await peer.send({"type": "input_audio_buffer.clear"})
                await peer.until("input_audio_buffer.cleared")
            _, closed = await peer.end()
            assert code_of(closed) == 1000
            assert time.monotonic() - start >= 1.6
        await assert_untouched(running)


async def test_an_accepted_socket_dies_soon() -> None:
    async with simulator("accept-then-close:seconds=0.2,code=1006,count=1") as running:
        async with dial(running) as peer:
            await peer.until("session.created")
            start = time.monotonic()
            kinds, closed = await peer.end()
            assert (kinds, code_of(closed)) == ([], None)
            assert time.monotonic() - start >= 0.15
        await assert_untouched(running)


async def test_chance_hits_its_share_and_the_same_seed_the_same_sockets() -> None:
    async def hits(seed: int) -> list[bool]:
        async with simulator("mute:events=none,probability=0.5", seed=seed) as running:
            for _ in range(40):
                async with dial(running) as peer:
                    await peer.until("session.created")
            await eventually(lambda: totals(running)["open"] == 0, "all have hung up")
            return [each["faults"] == ["mute"] for each in running.connections()]

    first = await hits(1)
    assert 8 <= sum(first) <= 32
    assert await hits(1) == first
    assert await hits(2) != first


async def test_a_fault_is_over_when_its_time_is() -> None:
    start = time.monotonic()
    async with simulator("silence:at=created,for_seconds=0.5") as running:
        async with dial(running) as peer:
            await peer.until("session.created")
            async with asyncio.timeout(DEADLINE_SECONDS):
                await peer.send({"type": "input_audio_buffer.clear"})
                while await peer.quiet():
                    await peer.send({"type": "input_audio_buffer.clear"})
            assert time.monotonic() - start >= 0.5
        await assert_untouched(running)


async def test_a_frozen_socket_goes_on_where_it_froze() -> None:
    async with simulator("half-open:at=created,for_seconds=1.0") as running, dial(running) as peer:
        await peer.until("session.created")
        await peer.send(GREET)
        assert await peer.quiet()
        assert (await peer.until("response.done"))[0]["type"] == "response.created"
