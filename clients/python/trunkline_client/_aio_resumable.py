"""One session on asyncio that outlives its streams: performs what the core decides."""

import asyncio
import contextlib
import math
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final

from trunkline.v1.event_pb2 import Queued
from trunkline.v1.session_pb2 import ConverseRequest, ConverseResponse, Open

from trunkline_client._aio_call import AsyncCall, StreamOverError
from trunkline_client._aio_dialling import AsyncDialler
from trunkline_client._aio_moving import AsyncMove
from trunkline_client._aio_opening import OpeningAsyncSession
from trunkline_client._movable import MovableCore
from trunkline_client._moving import Moving
from trunkline_client._resume import Attempts
from trunkline_client._session import State
from trunkline_client.errors import TrunklineError, refusal
from trunkline_client.options import ConnectionOptions

# What may wait for gRPC before a send waits: so little that a slow gateway is felt at once.
_UNSENT_MAX_BYTES: Final = 16_384


class ResumableAsyncSession(OpeningAsyncSession):
    """An `AsyncSession` that goes on when its stream is lost, and says so by `Resumed`.

    Cancelling a send takes nothing back and ends nothing. Leaving the block, by an exception too,
    says `bye {now}`, so that nothing waits for a caller who does not come back.

    Hands: a task that reads, and resumes; a task for each stream that writes; a timer; a task for a planned move.
    """

    _core: MovableCore

    def __init__(
        self,
        dialler: AsyncDialler,
        message: Open,
        options: ConnectionOptions,
        open_timeout_seconds: float,
        on_queued: Callable[[Queued], None] | None,
        opening: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """Prepare; nothing is sent before `async with`."""
        super().__init__(dialler, message, options, open_timeout_seconds, on_queued, opening)
        self._core = MovableCore(options, _UNSENT_MAX_BYTES)
        # What the writer waits for, and what those who send wait for.
        self._due = asyncio.Event()
        self._room = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._is_silent = False
        self._bearing: asyncio.Timeout | None = None
        self._move: AsyncMove | None = None

    @property
    def resumed_count(self) -> int:
        """How often the session went on after a loss, or at another gateway."""
        return self._core.resumed_count

    @property
    def is_resumable(self) -> bool:
        """Do as `AsyncSession.is_resumable` says."""
        return self._core.in_force

    def played(self, item_id: str, samples: int) -> None:
        """Do as `AsyncSession.played` says."""
        self._core.note_played(item_id, samples, time.monotonic())
        self._set_timer()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the session, as the class says."""
        await super().__aexit__(None if self._core.in_force else kind, error, trace)

    # Writing.

    async def _send(self, build: Callable[[], ConverseRequest]) -> int:
        async with self._writing:
            await self._wait_for_room()
            build()
            self._due.set()
            return self._core.cseq

    async def _wait_for_room(self) -> None:
        try:
            async with asyncio.timeout(self._options.write_timeout_seconds):
                while not self._core.has_room:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            raise self._given_up("the gateway took no message for too long") from None

    async def _write_all(self, call: AsyncCall) -> None:
        """Write what the core gives out until the stream is over; reading tells how it ended."""
        try:
            while not self._core.has_finished:
                request = self._core.next_request(time.monotonic())
                if request is not None:
                    await call.write(request)
                    self._room.set()
                    continue
                self._due.clear()
                self._set_timer()
                # Bounded by the stream: who reads it ends this task.
                await self._due.wait()
            await call.finish()
        except (StreamOverError, TrunklineError):
            # Reading may come to it much later, where the application does not read.
            self._core.detach()
            self._room.set()

    # Time.

    def _set_timer(self) -> None:
        """See that the core is asked when it is due."""
        if not self._core.attached:
            return
        now = time.monotonic()
        # What is due at once is a tick's to tell as well: it may be that the stream is to be given up.
        due_at = max(now, self._core.due_at(now))
        if due_at < self._timer_at:
            self._tick_at(due_at, now)

    def _tick_at(self, at: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._core.expect(at)
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(at - now, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        if self._core.is_silent(now) and self._call is not None:
            self._is_silent = True
            self._call.cancel()
        if not self._core.attached or self._is_silent:
            return
        due_at = self._core.due_at(now)
        if due_at <= now:
            self._due.set()
            # The writer may be held up by the gateway.
            due_at = now + self._options.ack_interval_seconds
        self._tick_at(due_at, now)

    # Reading, and going on.

    async def _receive(self, call: AsyncCall) -> None:
        """Fill the inbox until the session ends, and note how."""
        try:
            while True:
                failure = await self._bear(call)
                attempts = self._core.attempts(failure, time.monotonic())
                if attempts is None:
                    return self._core.end(failure)
                call = await self._moved() or await self._resume(attempts)
        except TrunklineError as failure:
            self._core.end(failure)
        finally:
            self._inbox.end()
            await self._end_move()

    async def _bear(self, call: AsyncCall) -> TrunklineError | None:
        """Bear the session on one stream; return how that ended, None = status OK."""
        now = time.monotonic()
        self._core.attach(now)
        self._is_silent = False
        self._tick_at(self._core.due_at(now), now)
        writing = asyncio.create_task(self._write_all(call), name=f"trunkline {self.id} writes")
        try:
            async with asyncio.timeout(None) as self._bearing:
                await self._receive_events(call)
        except (TrunklineError, TimeoutError) as failure:
            if self._is_silent:
                return refusal("TIMED_OUT", "the gateway fell silent")
            if self._call is not call or not isinstance(failure, TrunklineError):
                return refusal("CONNECTION_LOST", "the session has moved, and not gone on")
            return failure
        finally:
            self._bearing = None
            self._core.detach()
            self._room.set()
            if self._timer is not None:
                self._timer.cancel()
                self._timer_at = math.inf
            writing.cancel()
            await asyncio.wait({writing}, timeout=self._options.close_timeout_seconds)
            await call.aclose()
        return None

    async def _receive_events(self, call: AsyncCall) -> None:
        core = self._core
        while core.state is not State.CLOSED:
            core.listen(time.monotonic())
            response = await call.read()
            core.hear()
            if response is None or self._call is not call:
                # It has ended, or been left for another one: there all that is not applied comes again.
                return
            size_bytes = response.ByteSize()
            event = core.take_in(response, size_bytes, time.monotonic())
            self._room.set()
            self._set_timer()
            if core.moving is not None and not response.HasField("audio"):
                self._look_at_move(core.moving)
            if event is not None:
                await self._inbox.put(event, size_bytes)
        # What comes behind `closed` is its status; that it is lost is no matter.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.close_timeout_seconds):
                await call.read()

    async def _resume(self, attempts: Attempts) -> AsyncCall:
        """Return the stream on which the session goes on. Raises what ended it."""
        while True:
            attempt = attempts.next(time.monotonic(), random.random())  # noqa: S311 - chance, no secret
            await asyncio.sleep(attempt.pause_seconds)
            try:
                channel, is_owner = await self._dialler.dial(attempt)
                attempts.reach(is_owner=is_owner)
                call = self._call = await self._dialler.started(channel)
                async with asyncio.timeout(attempt.answer_seconds):
                    return await self._claimed(call)
            except TimeoutError:
                attempts.fail(refusal("TIMED_OUT", "no answer to `resume` in time"))
            except TrunklineError as failure:
                attempts.fail(failure)

    async def _claimed(self, call: AsyncCall) -> AsyncCall:
        is_claimed = False
        try:
            with contextlib.suppress(StreamOverError):
                await call.write(self._core.resume_request())
            while not is_claimed:
                is_claimed = self._note_answer(await call.read())
        finally:
            if not is_claimed:
                await call.aclose()
        return call

    def _note_answer(self, response: ConverseResponse | None) -> bool:
        """Tell whether it is `resumed`, and hand that out."""
        if response is None:
            raise refusal("CONNECTION_LOST", "the stream ended before `resumed`")
        resumed = self._core.receive_resumed(response)
        if resumed is not None:
            # Without a wait for room: the gateway must not take this side for dead meanwhile.
            self._inbox.add(resumed, response.ByteSize())
        return resumed is not None

    # Moving.

    def _look_at_move(self, moving: Moving) -> None:
        if self._move is None:
            self._move = AsyncMove(self._dialler, self._core, moving, self._leave_for, self._cut_first)
        self._move.look()

    def _leave_for(self, second: AsyncCall) -> None:
        """Write no more on the stream that bears the session, and apply nothing more of it."""
        self._call = second
        self._core.detach()

    def _cut_first(self) -> None:
        if self._bearing is not None:
            self._bearing.reschedule(0)

    async def _moved(self) -> AsyncCall | None:
        """Return the stream that was prepared, if the session goes on there."""
        call = None if self._move is None else await self._move.take_over(self._note_answer)
        await self._end_move()
        return call

    async def _end_move(self) -> None:
        self._core.moving = None
        if self._move is not None:
            await self._move.close()
            self._move = None
