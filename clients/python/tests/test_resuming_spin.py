"""A session that is to be given up at this very moment leaves its loop to the others until that has happened."""

import asyncio
import math
from typing import Any, cast

from trunkline_client._aio_resumable import ResumableAsyncSession
from trunkline_client.options import ConnectionOptions


class SilentCore:
    """One that is asked too late: something is due, and it is nothing that could be written."""

    attached, has_finished = True, False

    def __init__(self) -> None:
        self.looks = 0

    def next_request(self, _now: float) -> None:
        return None

    def due_at(self, now: float) -> float:
        return now - 0.001

    def expect(self, _at: float) -> None:
        """Take no note."""

    def is_silent(self, _now: float) -> bool:
        self.looks += 1
        return self.looks > 1


class Call:
    """A stream that can be cut."""

    is_cut = False

    def cancel(self) -> None:
        self.is_cut = True


async def test_a_writer_with_nothing_to_write_waits_for_the_clock() -> None:
    session = cast("Any", ResumableAsyncSession.__new__(ResumableAsyncSession))
    session._core, session._call, session._options = SilentCore(), Call(), ConnectionOptions()
    session._due, session._room = asyncio.Event(), asyncio.Event()
    session._timer, session._timer_at, session._is_silent = None, math.inf, False
    writing = asyncio.create_task(session._write_all(session._call))
    try:
        async with asyncio.timeout(5.0):
            while not session._call.is_cut:  # noqa: ASYNC110 it is the loop's own turns that count
                await asyncio.sleep(0)
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    assert session._is_silent
