"""Many dials at once, and dials that nobody answers."""

import asyncio
import contextlib
import select
import socket
import time

import aiohttp
import pytest

from gateway.simulator import Simulator, SimulatorOptions, fault_from_text
from tests.support.ports import free_port
from tests.support.waiting import eventually


async def test_no_dial_of_a_crowd_is_dropped() -> None:
    """Nothing is accepted meanwhile: this test holds the loop. What the kernel cannot queue is a dial a second late."""
    async with Simulator(SimulatorOptions(port=free_port())) as running:
        with contextlib.ExitStack() as stack:
            dials = [stack.enter_context(socket.socket()) for _ in range(500)]
            for each in dials:
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", running.options.port))
            connected = select.poll()
            for each in dials:
                connected.register(each, select.POLLOUT)
            assert len(connected.poll(0)) == len(dials)


async def test_stopping_does_not_wait_for_a_hung_handshake() -> None:
    async with aiohttp.ClientSession() as http:
        running = Simulator(SimulatorOptions(port=free_port(), faults=(fault_from_text("handshake-hang"),)))
        await running.start()
        dialling = asyncio.create_task(
            http.ws_connect(f"{running.url}?model=gpt-realtime", headers={"Authorization": "Bearer x"})
        )
        await eventually(lambda: running.observe()["handshakes"], "the dial has come")
        start = time.monotonic()
        await running.stop()
        assert time.monotonic() - start < 2
        with pytest.raises(aiohttp.ClientError):
            await dialling
