"""The links that the chaos runs break: what is cut ends, is cut for who comes anew, and is whole when it is healed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from trunkline.v1.session_pb2 import RESUME_OUTCOME_REATTACHED, RESUME_OUTCOME_REBUILT, Resumed

from tests.chaos.links import _is_reattached
from tests.chaos.talker import History
from tests.support.ports import free_port
from tests.support.proxy import Route, route_to

SECONDS = 5.0


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionResetError):
        while data := await reader.read(100):
            writer.write(data)
    writer.close()


@contextlib.asynccontextmanager
async def connected(route: Route) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", route.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    async with asyncio.timeout(SECONDS):
        writer.write(b"hello")
        return await reader.read(100)


async def test_a_link_that_is_cut_is_reset_for_old_and_new_until_it_is_healed() -> None:
    port = free_port()
    async with await asyncio.start_server(echo, "127.0.0.1", port), route_to(f"127.0.0.1:{port}") as route:
        async with connected(route) as old:
            assert await answer(*old) == b"hello"
            route.cut()
            with pytest.raises(ConnectionResetError):
                await answer(*old)
        async with connected(route) as new:
            with pytest.raises(ConnectionResetError):
                await answer(*new)
        route.heal()
        async with connected(route) as new:
            assert await answer(*new) == b"hello"


@pytest.mark.parametrize(
    ("outcome", "lines", "expected"),
    [
        (RESUME_OUTCOME_REATTACHED, ["a", "a"], True),
        # The gateway says so, and it is another line.
        (RESUME_OUTCOME_REATTACHED, ["a", "b"], False),
        (RESUME_OUTCOME_REBUILT, ["a", "a"], False),
        # It was being replaced when it was told last.
        (RESUME_OUTCOME_REATTACHED, ["", "b"], True),
    ],
)
def test_a_return_counts_only_to_the_same_line(outcome: int, lines: list[str], expected: bool) -> None:  # noqa: FBT001
    history = History(lines=lines, resumed=[(1.0, Resumed(outcome=outcome))])  # type: ignore[arg-type]
    assert _is_reattached(history, 0) is expected
