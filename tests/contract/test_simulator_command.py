"""`trunkline simulator --fault`: what is asked for happens, what cannot be is refused in one sentence."""

import asyncio
import json
import sys

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.support.ports import free_port

DEADLINE_SECONDS = 20.0


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        "simulator",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_faults_of_the_command_line_are_set() -> None:
    port = free_port()
    faults = ("--fault", "mute:events=session.updated", "--fault", "close:code=1012,at=after-seconds:0.1")
    process = await start("--port", str(port), "--seed", "7", *faults)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert process.stdout is not None
            assert b"listening" in await process.stdout.readline()
            url = f"ws://127.0.0.1:{port}/v1/realtime?model=gpt-realtime"
            async with connect(url, additional_headers={"Authorization": "Bearer x"}) as socket:
                assert json.loads(await socket.recv())["type"] == "session.created"
                with pytest.raises(ConnectionClosed) as closed:
                    await socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
    finally:
        process.terminate()
        await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    assert process.returncode == 0


async def test_a_wrong_fault_is_refused_in_one_sentence() -> None:
    process = await start("--fault", "crash:hard=yes")
    async with asyncio.timeout(DEADLINE_SECONDS):
        told, errors = await process.communicate()
    assert (process.returncode, told) == (2, b"")
    assert errors.decode().startswith("trunkline: --fault: there is no fault 'crash'; there are: accept-then-close, ")
    assert errors.count(b"\n") == 1
