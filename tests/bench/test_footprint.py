"""What one more line and one more session cost in memory: the slope over many, in a gateway process."""

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import grpc
import pytest
from trunkline.v1 import admin_pb2 as admin
from trunkline.v1 import admin_pb2_grpc
from trunkline.v1 import session_pb2 as session

from tests.support.calls import Caller
from tests.support.footprint import settled_kib, slope
from tests.support.processes import on_linux
from tests.support.rig import Rig, rig
from tests.support.slots import figures
from tests.support.stack import channel_to, pool
from tests.support.waiting import eventually_sync

LINES: Final = (20, 120, 220, 320, 420)
LINE_MAX_KIB: Final = 64.0
SESSIONS: Final = (0, 25, 50, 75, 100)
SESSION_MAX_KIB: Final = 400.0
# A microphone's audio, in pieces of 100 ms.
PIECES_PER_SECOND: Final = 10.0
PIECE: Final = session.ConverseRequest(audio=bytes(4800))
# What each session has sent before memory is read.
LISTENED_PIECES: Final = 25
WARM_SECONDS: Final = 60.0


def told(what: str, counts: Sequence[int], resident_kib: Sequence[float], max_kib: float) -> float:
    fit = slope(counts, resident_kib)
    figures(
        what,
        n=counts[-1] - counts[0],
        steps=tuple(counts),
        resident_kib=tuple(resident_kib),
        kib_each=round(fit.kib_each, 1),
        correlation=round(fit.correlation, 4),
        bound_kib=max_kib,
        load=round(os.getloadavg()[0], 2),
    )
    return fit.kib_each


def set_floor(measured: Rig, stub: Any, lines: int) -> None:
    stub.SetLimits(admin.SetLimitsRequest(pool="default", floor=lines), timeout=5)

    def there() -> bool:
        shown = stub.ListPools(admin.ListPoolsRequest(pool="default"), timeout=5).pools[0]
        return bool(shown.warm == lines and not shown.dialling)

    eventually_sync(there, f"{lines} lines are warm", WARM_SECONDS)


@on_linux
@pytest.mark.heavy
@pytest.mark.timeout(200)
def test_an_idle_line_over_tls_takes_64_kib_at_most() -> None:
    pools = {"default": pool(floor=LINES[0], ceiling=512, dials_max=16, demand={"enabled": False})}
    resident = []
    with rig(secure=True, pools=pools) as measured, grpc.insecure_channel(measured.address) as channel:
        stub = admin_pb2_grpc.AdminServiceStub(channel)
        for lines in LINES:
            set_floor(measured, stub, lines)
            resident.append(settled_kib(measured))
    assert told("idle lines over TLS", LINES, resident, LINE_MAX_KIB) <= LINE_MAX_KIB


class Listener:
    """A caller on a connection of its own, who speaks silence."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.caller = Caller(channel, deadline_seconds=240)
        self.pieces = 0

    async def speak(self) -> None:
        began = time.monotonic()
        while True:
            await self.caller.send(audio=PIECE.audio)
            self.pieces += 1
            await asyncio.sleep(began + self.pieces / PIECES_PER_SECOND - time.monotonic())


async def all_heard(listeners: Sequence[Listener]) -> None:
    async with asyncio.timeout(60):
        while any(each.pieces < LISTENED_PIECES for each in listeners):  # noqa: ASYNC110 a count, no event
            await asyncio.sleep(0.05)


@on_linux
@pytest.mark.heavy
@pytest.mark.timeout(200)
async def test_a_session_that_listens_takes_400_kib_at_most_with_its_line() -> None:
    pools = {"default": pool(floor=2, ceiling=256, dials_max=16, wait_max_ms=20_000, demand={"enabled": False})}
    resident, listeners, speaking = list[float](), list[Listener](), list[asyncio.Task[None]]()
    with rig(secure=True, pools=pools) as measured:
        async with AsyncExitStack() as stack:
            for count in SESSIONS:
                while len(listeners) < count:
                    channel = await stack.enter_async_context(channel_to(measured.address))
                    listeners.append(Listener(channel))
                    await listeners[-1].caller.open()
                    speaking.append(asyncio.create_task(listeners[-1].speak()))
                await all_heard(listeners)
                resident.append(await asyncio.to_thread(settled_kib, measured))
            for task, listener in zip(speaking, listeners, strict=True):
                assert not task.done(), "it was cut off"
                task.cancel()
                listener.caller.cancel()
    assert told("listening sessions", SESSIONS, resident, SESSION_MAX_KIB) <= SESSION_MAX_KIB
