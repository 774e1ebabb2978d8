"""A planned move on asyncio: a second stream, up to the answer to its claim. Performs what the core decides."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from trunkline.v1.session_pb2 import ConverseResponse

from trunkline_client._aio_call import AsyncCall, StreamOverError
from trunkline_client._aio_dialling import AsyncDialler
from trunkline_client._movable import MovableCore
from trunkline_client._moving import Moving
from trunkline_client._resume import Attempt
from trunkline_client.errors import TrunklineError, refusal

# A task that is cancelled asks no peer, and one that claims has a deadline of its own.
_ENDS_WITHIN_SECONDS: Final = 5.0


@dataclass(slots=True)
class _Second:
    """A stream. As soon as it is prepared its next message is waited for all the time: so its end is noticed."""

    call: AsyncCall
    reading: asyncio.Task[ConverseResponse | None] | None = None
    is_dropped: bool = False

    async def close(self) -> None:
        """Cut it; once more if that was cancelled."""
        self.is_dropped = True
        if self.reading is not None:
            self.reading.cancel()
            # A cancelled read asks no peer; what it raises is no matter any more.
            await asyncio.gather(self.reading, return_exceptions=True)
        await self.call.aclose()


class AsyncMove:
    """One move; its task prepares, waits for the moment and claims. Whoever began it calls `take_over` or `close`."""

    def __init__(
        self,
        dialler: AsyncDialler,
        core: MovableCore,
        moving: Moving,
        on_claim: Callable[[AsyncCall], None],
        on_claimed: Callable[[], None],
    ) -> None:
        """Begin. `on_claim` has the first stream left alone, with the second in hand; `on_claimed` has it cut."""
        self._dialler = dialler
        self._core = core
        self._moving = moving
        self._on_claim = on_claim
        self._on_claimed = on_claimed
        self._second: _Second | None = None
        self._is_claimed = False
        self._woken = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="trunkline moves")

    def look(self) -> None:
        """Look again whether this is the moment."""
        self._woken.set()

    async def take_over(self, on_answer: Callable[[ConverseResponse | None], bool]) -> AsyncCall | None:
        """Return the second stream once `on_answer` has found `resumed` on it; None = it is of no use.

        The first one is over: what is prepared is claimed now, if it is not already.
        """
        if not self._is_claimed:
            self._task.cancel()
        await asyncio.wait({self._task}, timeout=_ENDS_WITHIN_SECONDS)
        second = self._second
        if second is None or second.reading is None or second.is_dropped:
            return None
        try:
            async with asyncio.timeout(self._moving.claim_seconds):
                if not self._is_claimed:
                    await self._claim(second)
                while not on_answer(await second.reading):
                    second.reading = asyncio.create_task(second.call.read())
        except (TrunklineError, TimeoutError):
            return None
        self._second = None
        return second.call

    async def close(self) -> None:
        """Leave nothing behind, but what was taken over."""
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=_ENDS_WITHIN_SECONDS)
        await self._drop()

    async def _drop(self) -> None:
        if self._second is not None:
            await self._second.close()
            self._second = None

    async def _run(self) -> None:
        while (attempt := self._moving.next(time.monotonic(), random.random())) is not None:  # noqa: S311 - chance
            await asyncio.sleep(attempt.pause_seconds)
            try:
                second = await self._prepared(attempt)
                if await self._waited(second):
                    await self._claim(second)
                    return self._on_claimed()
            except TrunklineError as failure:
                self._moving.fail(failure)
            except TimeoutError:
                self._moving.fail(refusal("TIMED_OUT", "no answer to `resume` in time"))
            await self._drop()
            if not self._core.may_move:
                return None
        return None

    async def _prepared(self, attempt: Attempt) -> _Second:
        """Return a stream to a gateway that is ready."""
        channel, _ = await self._dialler.dial(attempt)
        call = await self._dialler.started(channel)
        self._second = second = _Second(call)
        async with asyncio.timeout(attempt.answer_seconds):
            # What ended a stream that cannot be written to is told by reading.
            with contextlib.suppress(StreamOverError):
                await call.write(self._core.prepare_request())
            while not self._moving.receive(await call.read()):
                pass
        self._moving.prepared(time.monotonic())
        second.reading = self._read(call)
        return second

    def _read(self, call: AsyncCall) -> asyncio.Task[ConverseResponse | None]:
        reading = asyncio.create_task(call.read())
        reading.add_done_callback(lambda _: self._woken.set())
        return reading

    async def _waited(self, second: _Second) -> bool:
        """Wait for the moment to claim; False = it does not come any more. Raises what ended the stream."""
        while self._core.may_move:
            if second.reading is not None and second.reading.done():
                if self._moving.receive(second.reading.result()):
                    raise refusal("INTERNAL", "the gateway said `prepared` twice")
                second.reading = self._read(second.call)
            left_seconds = self._core.claim_at - time.monotonic()
            if left_seconds <= 0:
                return True
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_seconds):
                    await self._woken.wait()
        return False

    async def _claim(self, second: _Second) -> None:
        """Claim the session. From here on nothing counts that comes on the first stream."""
        self._is_claimed = True
        self._on_claim(second.call)
        request = self._core.resume_request(self._moving.read_bytes)
        # Reading tells what became of it.
        with contextlib.suppress(StreamOverError, TimeoutError):
            async with asyncio.timeout(self._moving.claim_seconds):
                await second.call.write(request)
