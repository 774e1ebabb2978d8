"""How `top` follows gateways that come, go, freeze and are older than it; and what it prints into a pipe."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import Parse
from trunkline.v1 import admin_pb2
from trunkline.v1.admin_pb2_grpc import add_AdminServiceServicer_to_server

from gateway.cli.access import Access
from gateway.cli.failure import UnfulfilledError
from gateway.cli.watching import Watched, Watching
from gateway.core.errors import CallerError, Reason
from gateway.rpc.status import abort
from tests.support.ports import free_port
from tests.support.processes import ROOT, ProcessStack, environment, on_linux, process_stack
from tests.support.waiting import eventually

pytestmark = on_linux


class Scripted:
    """An AdminService that shows one pool, and how often it was asked."""

    def __init__(self, *, has_watch: bool = True) -> None:
        self.has_watch, self.frozen = has_watch, False
        self.watches = self.lists = 0

    async def GetCapabilities(self, request: Any, context: Any) -> Any:  # noqa: N802
        return admin_pb2.GetCapabilitiesResponse(version="9.9")

    async def ListPools(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.lists += 1
        return admin_pb2.ListPoolsResponse(pools=self.pools())

    async def ListSessions(self, request: Any, context: Any) -> Any:  # noqa: N802
        return admin_pb2.ListSessionsResponse(sessions=[admin_pb2.Session(session_id="sess_listed")])

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        self.watches += 1
        if not self.has_watch:
            await abort(context, CallerError(Reason.NOT_IMPLEMENTED_YET, "Watch: not served yet"))
        while True:
            yield admin_pb2.WatchResponse(pools=self.pools())
            await asyncio.sleep(3600 if self.frozen else request.interval_ms / 1000)

    def pools(self) -> list[admin_pb2.Pool]:
        return [admin_pb2.Pool(name="default", acquires={"hit": self.lists})]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return None


@asynccontextmanager
async def serving(service: Scripted, address: str) -> AsyncIterator[None]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_AdminServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call,unused-ignore,arg-type]
    server.add_insecure_port(address)
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


@asynccontextmanager
async def watching(address: str, interval_ms: int = 100) -> AsyncIterator[Watching]:
    found = Watching(Access(address), interval_ms)
    running = asyncio.create_task(found.run())
    try:
        yield found
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def here() -> str:
    return f"127.0.0.1:{free_port()}"


def now() -> float:
    return asyncio.get_running_loop().time()


def silent(watched: Watched, found: Watching) -> bool:
    return watched.is_silent(now(), found.patience_seconds)


async def test_a_gateway_that_serves_no_watch_is_asked_again_and_again() -> None:
    address, service = here(), Scripted(has_watch=False)
    async with serving(service, address), watching(address) as found:
        await found.begun()
        watched = found.gateways[address]
        await eventually(lambda: service.lists >= 3, "it is asked again")
        assert service.watches == 1
        assert (watched.version, watched.failure) == ("9.9", None)
        assert watched.seen is not None
        assert [each.session_id for each in watched.seen.sessions] == ["sess_listed"]


async def test_a_gateway_that_goes_is_shown_as_it_was_and_is_found_when_it_comes_back() -> None:
    address, other = here(), here()
    async with serving(Scripted(), other), watching(f"{address},{other}") as found:
        async with serving(Scripted(), address):
            await found.begun()
            gone, there = (found.gateways[each] for each in (address, other))
            assert not silent(gone, found)
        await eventually(lambda: silent(gone, found), "it is silent")
        assert gone.failure is not None
        assert gone.seen is not None
        assert [each.name for each in gone.seen.pools] == ["default"]
        assert not silent(there, found)
        service = Scripted()
        async with serving(service, address):
            await eventually(lambda: not silent(gone, found), "it is back")
            assert service.watches == 1


async def test_a_gateway_that_freezes_is_silent_soon_and_is_asked_anew() -> None:
    address, service = here(), Scripted()
    async with serving(service, address), watching(address) as found:
        await found.begun()
        watched = found.gateways[address]
        service.frozen = True
        await eventually(lambda: silent(watched, found), "it is silent", seconds=3)
        assert watched.failure is None
        service.frozen = False
        await eventually(lambda: service.watches == 2, "it is asked anew")
        await eventually(lambda: not silent(watched, found), "it is heard again")


async def test_nothing_is_shown_when_nobody_answers() -> None:
    first, second = here(), here()
    async with watching(f"{first},{second}") as found:
        with pytest.raises(UnfulfilledError) as raised:
            await found.begun()
    assert [sentence.partition(": ")[0] for sentence in raised.value.args] == [first, second]
    assert raised.value.exit_code == 1


async def test_it_begins_with_those_that_answer() -> None:
    address, nobody = here(), here()
    async with serving(Scripted(), address), watching(f"{nobody},{address}") as found:
        await found.begun()
        assert found.gateways[address].seen is not None
        assert silent(found.gateways[nobody], found)


# Into a pipe.


@pytest.fixture(scope="module")
def stack() -> Iterator[ProcessStack]:
    with process_stack() as running:
        running.until_warm()
        yield running


def top(address: str, *options: str) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-m", "gateway", "top", "--address", address, *options]
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment()
    )


def test_a_pipe_gets_page_after_page_without_any_control_character(stack: ProcessStack) -> None:
    with top(stack.address, "--interval-ms", "100") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(25)]
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=20)
    assert (process.returncode, complaints) == (130, "")
    assert sum(line.startswith("trunkline ") for line in lines) >= 2
    assert sum(stack.address in line for line in lines) >= 2
    assert all(line.removesuffix("\n").isprintable() for line in lines)


def test_a_pipe_that_is_closed_ends_it_without_a_word(stack: ProcessStack) -> None:
    with top(stack.address, "--interval-ms", "100") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) == 1
        assert process.stderr.read() == ""


def test_programs_get_a_line_for_each_look(stack: ProcessStack) -> None:
    with top(stack.address, "--interval-ms", "100", "--json") as process:
        assert process.stdout is not None
        looks = [Parse(process.stdout.readline(), admin_pb2.WatchResponse()) for _ in range(3)]
        process.terminate()
    assert [each.name for look in looks for each in look.pools] == ["default"] * 3


def test_once_is_once(stack: ProcessStack) -> None:
    with top(stack.address, "--once", "--json") as process:
        out, complaints = process.communicate(timeout=20)
    assert (process.returncode, complaints) == (0, "")
    assert len(json.loads(out)["pools"]) == 1
