"""What operators type, at two real gateways that share a Redis."""

import asyncio
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from trunkline.v1 import admin_pb2
from trunkline.v1 import event_pb2 as event

from tests.support.calls import Caller
from tests.support.commands import Commands, commands
from tests.support.fleet import Fleet, fleet
from tests.support.ports import free_port
from tests.support.processes import (
    ROOT,
    Finished,
    ProcessStack,
    environment,
    on_linux,
    process_stack,
)
from tests.support.stack import channel_to, pool
from tests.support.steering import Operator

pytestmark = on_linux
FLOOR, CEILING = 2, 8


@pytest.fixture(scope="module")
def two() -> Iterator[Fleet]:
    with fleet(2, pools={"default": pool(floor=FLOOR, ceiling=CEILING, demand={"enabled": False})}) as running:
        yield running


@pytest.fixture(scope="module")
def command() -> Iterator[Commands]:
    with commands() as running:
        yield running


@pytest.fixture(scope="module")
def nobody() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def both(two: Fleet) -> str:
    return ",".join(two.addresses)


@asynccontextmanager
async def calling(two: Fleet, *correlations: str) -> AsyncIterator[list[Caller]]:
    """Hold one session for each correlation id, at one gateway after the other."""
    channels = [channel_to(address) for address in two.addresses]
    try:
        callers = []
        for number, correlation in enumerate(correlations):
            callers.append(Caller(channels[number % len(channels)]))
            await callers[-1].open(correlation_id=correlation)
        yield callers
        for each in callers:
            each.cancel()
        for channel in channels:
            async with asyncio.timeout(10):
                while await Operator(channel).sessions():  # noqa: ASYNC110 it is another process
                    await asyncio.sleep(0.05)
    finally:
        for channel in channels:
            await channel.close()


def answers(done: Finished, message: Any) -> list[Any]:
    """Return what was printed for programs: one answer on each line."""
    return [Parse(line, type(message)()) for line in done.out.splitlines()]


def failed(done: Finished, *words: str) -> None:
    """Exit code 1 and sentences on stderr that have these words."""
    assert done.code == 1, done
    assert "Traceback" not in done.err, done.err
    assert all(line.startswith("trunkline: ") for line in done.err.splitlines()), done.err
    for word in words:
        assert word in done.err, done.err


# Reading.


async def test_all_gateways_are_asked_and_their_answers_are_one(command: Commands, two: Fleet, both: str) -> None:
    async with calling(two, "one", "two", "three"):
        pools = Parse(command("pools", "--json", "--address", both).out, admin_pb2.ListPoolsResponse())
        leases = Parse(command("leases", "--json", "--address", both).out, admin_pb2.ListLeasesResponse())
        sessions = Parse(command("sessions", "--json", "--address", both).out, admin_pb2.ListSessionsResponse())
        table = command("sessions", "--address", both)
    assert [each.gateway for each in pools.pools] == two.addresses
    assert sorted(each.leased for each in pools.pools) == [1, 2]
    assert {each.correlation_id for each in leases.leases} == {"one", "two", "three"}
    found = {each.correlation_id: each for each in sessions.sessions}
    assert found["one"].gateway == found["three"].gateway == two.addresses[0]
    assert found["two"].gateway == two.addresses[1]
    assert (table.code, table.err) == (0, "")
    (line,) = [line for line in table.out.splitlines() if found["two"].session_id in line]
    assert line.split()[0] == two.addresses[1]


@pytest.mark.parametrize("verb", ["pools", "sessions", "capabilities", "pause", "retire", "top"])
def test_a_gateway_that_does_not_answer_hides_nobody(
    command: Commands, two: Fleet, both: str, nobody: str, verb: str
) -> None:
    more = {"pause": ["default"], "top": ["--once"]}.get(verb, [])
    done = command(verb, *more, "--address", f"{nobody},{both}")
    command("unpause", "default", "--address", both)
    failed(done, f"{nobody}: CONNECTION_LOST", "is a gateway running there")
    assert len(done.err.splitlines()) == 1
    assert done.out.strip()
    if verb != "sessions":
        assert all(address in done.out for address in two.addresses)


@pytest.mark.parametrize("verb", ["pools", "leases", "sessions", "capabilities", "retire", "top"])
def test_without_any_gateway_there_is_nothing_but_a_sentence(command: Commands, nobody: str, verb: str) -> None:
    for options in ([], ["--json"]):
        done = command(verb, *options, "--address", nobody)
        failed(done, nobody)
        assert done.out == ""


def test_capabilities_tell_what_is_served(command: Commands, two: Fleet) -> None:
    done = command("capabilities", "--json", "--address", two.addresses[0])
    able = Parse(done.out, admin_pb2.GetCapabilitiesResponse())
    assert list(able.templates) == ["default"]
    assert able.methods
    shown = command("capabilities", "--address", two.addresses[0])
    assert (shown.code, shown.err) == (0, "")
    assert two.addresses[0] in shown.out
    not_served = shown.out.partition("not served")[2]
    assert not any(method in not_served.replace(",", "").split() for method in able.methods)


# Steering.


async def test_a_pool_is_paused_and_unpaused_everywhere(command: Commands, two: Fleet, both: str) -> None:
    done = command("pause", "default", "--json", "--address", both)
    assert (done.code, done.err) == (0, "")
    assert [each.pool.paused for each in answers(done, admin_pb2.PausePoolResponse())] == [True, True]
    for address in two.addresses:
        async with channel_to(address) as channel:
            assert (await Operator(channel).pool()).paused
    done = command("unpause", "default", "--address", both)
    assert (done.code, done.err, done.out.count("serving")) == (0, "", 2)


def test_a_drained_pool_says_so_and_comes_back(command: Commands, both: str) -> None:
    done = command("drain", "default", "--address", both)
    assert (done.code, done.err, done.out.count("draining")) == (0, "", 3), done  # one is a column
    done = command("unpause", "default", "--json", "--address", both)
    shown = answers(done, admin_pb2.UnpausePoolResponse())
    assert [(each.pool.is_draining, each.pool.floor) for each in shown] == [(False, FLOOR)] * 2


def test_limits_change_what_is_given_and_nothing_else(command: Commands, two: Fleet, both: str) -> None:
    done = command("limits", "default", "--ceiling", "9", "--dials-max", "3", "--json", "--address", both)
    assert (done.code, done.err) == (0, "")
    shown = answers(done, admin_pb2.SetLimitsResponse())
    assert [(each.pool.floor, each.pool.ceiling) for each in shown] == [(FLOOR, 9)] * 2
    wrong = command("limits", "default", "--ceiling", "0", "--address", both)
    failed(wrong, *two.addresses)
    back = command("limits", "default", "--ceiling", str(CEILING), "--address", both)
    assert (back.code, back.err) == (0, "")


def test_lines_of_the_newest_template_are_not_retired(command: Commands, two: Fleet, both: str) -> None:
    done = command("retire", "--address", both)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [f"{address}: 0 lines retired" for address in two.addresses]
    failed(command("retire", "default", "--below-version", "nonesuch", "--address", both), "nonesuch")


async def test_a_session_is_killed_wherever_it_runs(command: Commands, two: Fleet, both: str, nobody: str) -> None:
    async with calling(two, "one", "two") as (_, second):
        session_id = second.all("opened")[0].session_id
        asked = ["kill", session_id, "--reason", "it talks to itself", "--address"]
        done = await asyncio.to_thread(command, *asked, f"{nobody},{both}")
        assert (done.code, done.err) == (0, "")
        assert done.out == f"{two.addresses[1]}: the session was ended\n"
        closed = await second.until("closed")
        assert closed.reason == event.CLOSED_REASON_KILLED
        again = await asyncio.to_thread(command, *asked, both)
        failed(again, session_id, "trunkline sessions")
        assert (again.out, len(again.err.splitlines())) == ("", 1)
        unsure = await asyncio.to_thread(command, *asked, f"{nobody},{both}")
        failed(unsure, nobody, session_id)


@pytest.mark.parametrize("verb", [["pause"], ["unpause"], ["drain"], ["retire"], ["limits", "--floor", "1"]])
def test_a_pool_that_is_not_there_is_named_by_each_gateway(
    command: Commands, two: Fleet, both: str, verb: list[str]
) -> None:
    done = command(*verb, "nonesuch", "--address", both)
    failed(done, "nonesuch", "default", *two.addresses)
    assert done.out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["drain"], "--all"),
        (["drain", ""], "empty"),
        (["retire", ""], "empty"),
        (["drain", "default", "--deadline-seconds", "5"], "--deadline-seconds"),
        (["drain", "--deadline-seconds", "0"], "--deadline-seconds"),
        (["limits", "default"], "--ceiling"),
        (["limits", "default", "--floor", "-1"], "--floor"),
        (["limits", "default", "--floor", "4294967296"], "--floor"),
        (["kill", "sess_x"], "--reason"),
        (["kill", "--reason", "x"], "session_id"),
        (["pause"], "pool"),
        (["top", "--interval-ms", "99"], "--interval-ms"),
        (["top", "--interval-ms", "60001"], "--interval-ms"),
        (["pools", "--address", "nonsense"], "HOST:PORT"),
        (["top", "--address", "example.com:50051"], "--ca-file"),
        (["top", "--ca-file", "/nonesuch"], "/nonesuch"),
        (["top", "--token-file", "/nonesuch"], "/nonesuch"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_was_typed_wrongly_is_told_before_anybody_is_asked(
    command: Commands, both: str, arguments: list[str], words: str
) -> None:
    done = command(*arguments, *([] if "--address" in arguments else ["--address", both]))
    assert (done.code, done.out) == (2, ""), done
    assert done.err.startswith("trunkline: "), done.err
    assert words.lower() in done.err.lower()


# Draining a gateway.


def typed(stack: ProcessStack, answer: bytes) -> tuple[int, str]:
    """Drain on a terminal, and answer the question; return exit code and words."""
    ours, theirs = pty.openpty()
    arguments = [sys.executable, "-m", "gateway", "drain", "--address", stack.address]
    try:
        with subprocess.Popen(
            arguments, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT, env=environment()
        ) as process:
            os.write(ours, answer)
            said, _ = process.communicate(timeout=30)
    finally:
        os.close(ours)
        os.close(theirs)
    return process.returncode, said.decode()


def test_a_gateway_is_drained_after_a_question_and_ends(command: Commands) -> None:
    with process_stack() as stack:
        stack.until_warm()
        code, said = typed(stack, b"n\n")
        assert code == 1
        assert f"{stack.address}: refuse callers" in said
        assert "nothing was drained" in said
        assert not stack.gateway.ended
        code, said = typed(stack, b"y\n")
        assert code == 0, said
        assert said.endswith(f"{stack.address}: draining, 0 sessions running\n"), said
        assert stack.gateway.wait() == 0
        # Nobody is there to be drained again; a script is asked nothing.
        failed(command("drain", "--address", stack.address), "CONNECTION_LOST")


async def test_several_gateways_are_drained_only_by_saying_all(command: Commands) -> None:
    pools = {"default": pool(floor=1, ceiling=4)}
    with fleet(2, pools=pools, limits={"drain_seconds": 30}) as running:
        both = ",".join(running.addresses)
        refused = command("drain", "--yes", "--address", both)
        assert refused.code == 2
        assert not any(process.ended for process in running.gateways.values())
        async with channel_to(running.addresses[0]) as channel:
            caller = Caller(channel)
            await caller.open()
            asked = ["drain", "--all", "--yes", "--deadline-seconds", "1", "--json", "--address", both]
            done = await asyncio.to_thread(command, *asked)
            assert (done.code, done.err) == (0, "")
            assert [each.sessions for each in answers(done, admin_pb2.DrainGatewayResponse())] == [1, 0]
            codes = [await asyncio.to_thread(process.wait) for process in running.gateways.values()]
            assert codes == [0, 0]
