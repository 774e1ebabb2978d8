"""Real processes: whatever ends one, nothing of it is left, and callers are told."""

import functools
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from trunkline.v1 import admin_pb2, admin_pb2_grpc
from trunkline.v1 import event_pb2 as event

from tests.support.calls import Caller
from tests.support.processes import (
    Process,
    ProcessStack,
    all_gone,
    descendants,
    on_linux,
    valkeys,
)
from tests.support.processes import process_stack as any_process_stack
from tests.support.waiting import eventually, eventually_sync

pytestmark = on_linux

# How a process begins belongs to what is asked here.
process_stack = functools.partial(any_process_stack, forks=False)

CALLER = """
import sys, time, grpc
from trunkline.v1 import session_pb2 as s, session_pb2_grpc as g, control_pb2 as c
def requests():
    yield s.ConverseRequest(open=s.Open(correlation_id="to-be-killed"))
    yield s.ConverseRequest(control=c.Control(create_response=c.CreateResponse()))
    while True:
        time.sleep(0.02)
        yield s.ConverseRequest(audio=bytes(960))
for message in g.SessionServiceStub(grpc.insecure_channel(sys.argv[1])).Converse(requests()):
    if message.WhichOneof("message") == "audio":
        print("talking", flush=True)
"""


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as folder:
        yield Path(folder)


def leases(stack: ProcessStack) -> list[str]:
    with grpc.insecure_channel(stack.address) as channel:
        stub = admin_pb2_grpc.AdminServiceStub(channel)
        answer = stub.ListLeases(admin_pb2.ListLeasesRequest(), timeout=5, wait_for_ready=True)
        return [each.correlation_id for each in answer.leases]


def test_a_gateway_that_is_killed_leaves_no_process_behind() -> None:
    with process_stack() as stack:
        stack.until_warm()
        below = descendants(stack.gateway.pid)
        assert valkeys(stack.gateway.pid)
        stack.gateway.send(signal.SIGKILL)
        stack.gateway.wait()
        all_gone(below)


async def test_at_sigterm_a_running_session_gets_time_and_is_told() -> None:
    limits = {"drain_seconds": 20}
    with process_stack(limits=limits) as stack:
        stack.until_warm()
        below = descendants(stack.gateway.pid)
        async with grpc.aio.insecure_channel(stack.address) as channel:
            caller = Caller(channel)
            await caller.open()
            await caller.say("Hello there")
            stack.gateway.send(signal.SIGTERM)
            await eventually(lambda: '"draining"' in stack.gateway.output, "it drains")
            refused = await Caller(channel).refused()
            assert refused.code is grpc.StatusCode.UNAVAILABLE
            assert refused.reason == "DRAINING"
            await caller.answer_please()
            done = await caller.until("response_done")
            assert done.status == event.RESPONSE_STATUS_COMPLETED
            await caller.bye()
            await caller.rest()
            assert caller.all("closed")[0].reason == event.CLOSED_REASON_BYE
            assert (await caller.status()).code is grpc.StatusCode.OK
        assert stack.gateway.wait() == 0
        assert "Traceback" not in stack.gateway.output
        all_gone(below)


@pytest.mark.heavy
async def test_a_session_that_does_not_end_in_time_is_closed_with_the_reason() -> None:
    with process_stack(limits={"drain_seconds": 0.5}) as stack:
        stack.until_warm()
        async with grpc.aio.insecure_channel(stack.address) as channel:
            caller = Caller(channel)
            await caller.open()
            stack.gateway.send(signal.SIGTERM)
            closed = await caller.until("closed")
            assert closed.reason == event.CLOSED_REASON_DRAINING
            await caller.rest()
            status = await caller.status()
            assert (status.code, status.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
            assert stack.gateway.wait() == 0
        assert "Traceback" not in stack.gateway.output


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.heavy)],
    ids=["term", "int"],
)
async def test_a_second_signal_ends_it_at_once(number: signal.Signals) -> None:
    with process_stack(limits={"drain_seconds": 30}) as stack:
        stack.until_warm()
        below = descendants(stack.gateway.pid)
        async with grpc.aio.insecure_channel(stack.address) as channel:
            caller = Caller(channel)
            await caller.open()
            stack.gateway.send(number)
            await eventually(lambda: '"draining"' in stack.gateway.output, "it drains")
            assert not stack.gateway.ended
            stack.gateway.send(number)
            began = time.monotonic()
            stack.gateway.wait(10)
            assert time.monotonic() - began < 2.0
        assert stack.gateway.code == 1
        assert "Traceback" not in stack.gateway.output
        all_gone(below)


def test_a_caller_that_is_killed_in_mid_call_frees_its_line(short: Path) -> None:
    with process_stack() as stack:
        stack.until_warm()
        caller = Process(["-c", CALLER, stack.address], short / "caller.log")
        try:
            caller.says("talking")
            assert leases(stack) == ["to-be-killed"]
            caller.send(signal.SIGKILL)
            caller.wait()
            eventually_sync(lambda: leases(stack) == [], "the line is free", seconds=5)
        finally:
            caller.stop()
        stack.until_warm()
        assert '"to-be-killed"' in stack.gateway.output
        assert '"level": "error"' not in stack.gateway.output


@pytest.mark.heavy
async def test_a_frozen_caller_is_noticed_and_its_line_freed(short: Path) -> None:
    """Pings go unanswered: 10 s to the next one, 5 s for its answer."""
    with process_stack() as stack:
        stack.until_warm()
        caller = Process(["-c", CALLER, stack.address], short / "caller.log")
        try:
            caller.says("talking")
            caller.send(signal.SIGSTOP)
            await eventually(lambda: leases(stack) == [], "the line is free", seconds=40)
        finally:
            caller.send(signal.SIGKILL)
            caller.wait()


def _interrupted(short: Path, arguments: list[str], words: str) -> Process:
    """Press Ctrl-C when the command has said `words`: the signal goes to its process group."""
    process = Process(["-m", "gateway", *arguments], short / "out.log")
    try:
        eventually_sync(lambda: words in process.output or process.ended, f"{words!r}", seconds=40)
        assert not process.ended, process.output
        below = descendants(process.pid)
        assert below
        os.killpg(process.pid, signal.SIGINT)
        process.wait(20)
        all_gone(below)
    finally:
        process.stop()
    return process


@pytest.mark.heavy
@pytest.mark.parametrize("words", ["opening", "rehearsal"])
def test_ctrl_c_during_a_demo_leaves_nothing_behind(words: str, short: Path) -> None:
    arguments = ["demo", "--calls", "2", "--output", str(short / "output")]
    process = _interrupted(short, arguments, words)
    assert process.code == 130
    assert "Traceback" not in process.output
    for log in (short / "output").glob("*.log"):
        assert "Traceback" not in log.read_text("utf-8")


@pytest.mark.heavy
def test_a_demo_that_is_killed_leaves_nothing_behind(short: Path) -> None:
    arguments = ["-m", "gateway", "demo", "--calls", "2", "--output", str(short / "output")]
    process = Process(arguments, short / "out.log")
    try:
        process.says("opening")
        eventually_sync(lambda: valkeys(process.pid), "the store runs", seconds=20)
        below = descendants(process.pid)
        process.send(signal.SIGKILL)
        process.wait()
        all_gone(below)
    finally:
        process.stop()


def _taken(*ports: int) -> list[int]:
    taken = []
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                taken.append(port)
    return taken


@pytest.mark.heavy
def test_ctrl_c_during_dev_leaves_nothing_behind(short: Path) -> None:
    if taken := _taken(50051, 9464, 9180):
        pytest.skip(f"`dev` listens on fixed ports, and {taken} are in use; free them")
    process = _interrupted(short, ["dev"], "Ctrl-C stops both")
    assert process.code in (0, 130)
    assert "Traceback" not in process.output
    assert _taken(50051, 9464, 9180) == []
