"""How both clients find a gateway on real sockets: one that is frozen, one that refuses, a link that is away."""

import asyncio
import dataclasses
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from trunkline_client import AsyncClient, ConnectionLost

from .cutting import cuttable
from .long_session import LongSession
from .resuming import QUICK, items_until, until, wired
from .scripted_gateway import free_port, serving
from .shells import Connect

# As is, but for what makes ends quick: 0.25 s of patience.
CALM = dataclasses.replace(QUICK, owner_timeout_seconds=1.0)


class Frozen:
    """A process that stands still: its kernel takes connections, and nobody answers."""

    def __init__(self) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._listener = socket.create_server(("127.0.0.1", int(self.address.partition(":")[2])))

    def ended(self) -> int:
        """Return how many connections came; each must have been closed by who made it, or TimeoutError."""
        self._listener.settimeout(0.2)
        came = list[socket.socket]()
        with suppress(TimeoutError):
            while True:
                came.append(self._listener.accept()[0])
        for near in came:
            with near:
                near.settimeout(3)
                _until_closed(near)
        return len(came)

    def close(self) -> None:
        self._listener.close()


def _until_closed(near: socket.socket) -> None:
    # gRPC resets where something was unread.
    with suppress(ConnectionResetError):
        while near.recv(65_536):
            pass


@contextmanager
def frozen() -> Iterator[Frozen]:
    listener = Frozen()
    try:
        yield listener
    finally:
        listener.close()


async def test_a_frozen_owner_costs_its_patience_and_no_more_and_its_connection_is_closed(connect: Connect) -> None:
    long = LongSession()
    with frozen() as owner, wired(long) as cutter:
        long.owner_address = owner.address
        async with connect(cutter.address, options=CALM) as client, client.open(resumable=True) as session:
            cutter.cut()
            begun = time.monotonic()
            await session.send_text("1")
            assert (await items_until(session, "1"))[0] == ["1"]
            assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("trunkline dials")]
            assert 0.2 < time.monotonic() - begun < 2
            assert await asyncio.to_thread(owner.ended) == 1
    assert len(long.resumes) == 1


async def test_a_balancer_that_draws_the_frozen_one_twice_costs_no_round(connect: Connect) -> None:
    long = LongSession(heartbeat_ms=100)
    with frozen() as stuck, serving(long.script) as gateway, cuttable(gateway.address) as cutter:
        long.owner_address = stuck.address
        async with connect(cutter.address, options=CALM) as client, client.open(resumable=True) as session:
            cutter.lead_to(stuck.address, stuck.address, gateway.address)
            cutter.freeze()
            begun = time.monotonic()
            await session.send_text("1")
            assert (await items_until(session, "1"))[0] == ["1"]
            # Three beats, and the patience with the owner.
            assert time.monotonic() - begun < 2.5
            assert session.resumed_count == 1
            assert cutter.connections == 4
    assert len(long.resumes) == 1


async def test_a_link_that_was_away_leads_back_to_the_owner(connect: Connect) -> None:
    long, stranger = LongSession(), LongSession()
    with (
        serving(long.script) as owner,
        serving(stranger.script) as other,
        cuttable(owner.address) as way,
        cuttable(owner.address) as balancer,
    ):
        long.owner_address = way.address
        async with connect(balancer.address, options=CALM) as client, client.open(resumable=True) as session:
            balancer.lead_to(other.address)
            for _ in range(3):
                for each in (way, balancer):
                    each.refused = 0
                    each.cut(lets_in=False)
                await until(lambda: min(way.refused, balancer.refused) >= 3)
                # The worse order: who is asked for next is not the owner.
                balancer.lets_in.set()
                way.lets_in.set()
                words = f"after {session.resumed_count}"
                await session.send_text(words)
                assert (await items_until(session, words))[0] == [words]
    assert stranger.resumes == []
    assert len(long.resumes) == 3


async def test_an_owner_that_is_killed_costs_nothing(connect: Connect) -> None:
    long = LongSession()
    with wired(long) as cutter:
        long.owner_address = f"127.0.0.1:{free_port()}"
        async with connect(cutter.address, options=CALM) as client, client.open(resumable=True) as session:
            took = []
            for turn in range(5):
                cutter.cut()
                begun = time.monotonic()
                await session.send_text(str(turn))
                await items_until(session, str(turn))
                took.append(time.monotonic() - begun)
            # Its patience would be 0.25.
            assert min(took) < 0.2


@pytest.mark.parametrize("address", ["10.255.255.1:1", "no address"])
async def test_an_owner_that_cannot_be_dialled_is_nobody(connect: Connect, address: str) -> None:
    # In plaintext to another machine, which nobody has allowed.
    long = LongSession(owner_address=address)
    with wired(long) as cutter:
        async with connect(cutter.address, options=CALM) as client, client.open(resumable=True) as session:
            cutter.cut()
            await session.send_text("1")
            assert (await items_until(session, "1"))[0] == ["1"]


async def test_leaving_the_block_while_it_dials_leaves_no_connection(connect: Connect) -> None:
    long = LongSession()
    with frozen() as owner, wired(long) as cutter:
        long.owner_address = owner.address
        async with connect(cutter.address, options=CALM) as client:
            async with client.open(resumable=True) as session:
                cutter.cut(lets_in=False)
                await until(lambda: cutter.refused > 0)
            assert session.closed is None
            assert await asyncio.to_thread(owner.ended) == 1


async def test_a_session_on_a_channel_of_its_own_ends_with_its_client(connect: Connect) -> None:
    long = LongSession()
    with wired(long) as cutter:
        async with connect(cutter.address, options=CALM) as client, client.open(resumable=True) as session:
            cutter.cut()
            await session.send_text("1")
            await items_until(session, "1")
            await client.close()
            with pytest.raises(Exception, match="NOT_OPEN"):
                await items_until(session, "never")
    assert len(long.resumes) == 1


async def test_nothing_is_left_open_after_many_rounds(connect: Connect) -> None:
    long = LongSession(resume_window_seconds=1)
    before = open_files()
    with frozen() as owner, wired(long) as cutter:
        long.owner_address = owner.address
        async with connect(cutter.address, options=QUICK) as client:
            async with client.open(resumable=True) as session:
                cutter.cut(lets_in=False)
                with pytest.raises(ConnectionLost, match="not resumed within 1 s"):
                    await items_until(session, "never")
            assert await asyncio.to_thread(owner.ended) >= 3
    await until(lambda: open_files() <= before + 2)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_cancelled_while_it_dials_it_closes_every_connection() -> None:
    long = LongSession()
    before = asyncio.all_tasks()

    async def talk(address: str, opened: asyncio.Event) -> None:
        async with AsyncClient(address, options=CALM) as client, client.open(resumable=True) as session:
            opened.set()
            await items_until(session, "never")

    with frozen() as owner, wired(long) as cutter:
        long.owner_address = owner.address
        opened = asyncio.Event()
        talking = asyncio.create_task(talk(cutter.address, opened))
        await opened.wait()
        cutter.cut(lets_in=False)
        await until(lambda: cutter.refused > 0)
        talking.cancel()
        with suppress(asyncio.CancelledError):
            await talking
        await until(lambda: asyncio.all_tasks() == before)
        assert await asyncio.to_thread(owner.ended) == 1
