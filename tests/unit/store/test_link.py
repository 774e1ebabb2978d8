"""A connection that did not get every answer is never used again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.store.link import LinkError, Refusal, Refused, ServerLink
from gateway.store.options import RedisOptions

Answer = Callable[[bytes], bytes]


@asynccontextmanager
async def link_to(folder: Path, answer: Answer) -> AsyncIterator[ServerLink]:
    """Connect a link to a server that answers each read with `answer`."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(answer(data))
            writer.close()
            await writer.wait_closed()
        ended.set()

    socket = folder / "s"
    async with await asyncio.start_unix_server(serve, socket):
        link = ServerLink(RedisOptions(url=f"unix://{socket}"))
        await link.open()
        try:
            yield link
        finally:
            await link.close()
            async with asyncio.timeout(2):
                await ended.wait()


def soon(seconds: float = 1.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_answers_come_in_the_order_of_commands(tmp_path: Path) -> None:
    async with link_to(tmp_path, lambda _: b"+one\r\n:2\r\n$-1\r\n") as link:
        replies = await link.exchange([("A",), ("B",), ("C",)], soon())
        assert replies == [b"one", 2, None]


async def test_a_late_answer_is_never_taken_for_a_later_command_s(tmp_path: Path) -> None:
    async with link_to(tmp_path, lambda _: b"+half of the answers\r\n") as link:
        with pytest.raises(LinkError, match="no answer in time"):
            await link.exchange([("A",), ("B",)], soon(0.05))
        with pytest.raises(LinkError, match="not connected"):
            await link.exchange([("C",)], soon())


async def test_a_cancelled_exchange_drops_the_connection(tmp_path: Path) -> None:
    async with link_to(tmp_path, lambda _: b"") as link:
        asking = asyncio.create_task(link.exchange([("A",)], soon()))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})
        assert asking.cancelled()
        with pytest.raises(LinkError, match="not connected"):
            await link.exchange([("B",)], soon())


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        (b"-NOSCRIPT No matching script.", Refusal.UNKNOWN_SCRIPT),
        (b"-OOM command not allowed when used memory > 'maxmemory'.", Refusal.UNUSABLE),
        (b"-READONLY You can't write against a read only replica.", Refusal.UNUSABLE),
        (b"-MISCONF Errors writing to the AOF file", Refusal.UNUSABLE),
        (b"-NOREPLICAS Not enough good replicas to write.", Refusal.UNUSABLE),
        (b"-NOPERM this user has no permissions", Refusal.UNUSABLE),
        (b"-BUSY Redis is busy running a script.", Refusal.UNUSABLE),
        (b"-MASTERDOWN Link with MASTER is down", Refusal.UNUSABLE),
        (b"-WRONGTYPE Operation against a key", Refusal.COMMAND),
        (b"-ERR anything else", Refusal.COMMAND),
    ],
)
async def test_a_refusal_stands_where_the_answer_would(tmp_path: Path, line: bytes, refusal: Refusal) -> None:
    async with link_to(tmp_path, lambda _: b"+OK\r\n" + line + b"\r\n+OK\r\n") as link:
        first, refused, last = await link.exchange([("A",), ("B",), ("C",)], soon())
    assert (first, last) == (b"OK", b"OK")
    assert isinstance(refused, Refused)
    assert refused.refusal is refusal


@pytest.mark.parametrize("garbage", [b"?what\r\n", b"$5\r\nab"])
async def test_what_is_not_an_answer_ends_the_connection(tmp_path: Path, garbage: bytes) -> None:
    async with link_to(tmp_path, lambda _: garbage) as link:
        with pytest.raises(LinkError):
            await link.exchange([("A",)], soon(0.05))
        with pytest.raises(LinkError, match="not connected"):
            await link.exchange([("B",)], soon())


async def test_no_server_is_a_link_error_without_the_password(tmp_path: Path) -> None:
    link = ServerLink(RedisOptions(url=f"unix://:hunter2@{tmp_path}/none"))
    with pytest.raises(LinkError, match="no connection") as raised:
        await link.open()
    assert "hunter2" not in str(raised.value)
