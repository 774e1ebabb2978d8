"""One session on asyncio: performs what the core decides."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from grpc import aio
from trunkline.v1.control_pb2 import Control
from trunkline.v1.event_pb2 import Closed, Queued
from trunkline.v1.session_pb2 import ConverseRequest, Open, Opened

from trunkline_client._aio_call import AsyncCall, StreamOverError
from trunkline_client._aio_controls import AsyncControls
from trunkline_client._aio_dialling import AsyncDialler
from trunkline_client._aio_elsewhere import open_somewhere
from trunkline_client._inbox import Inbox
from trunkline_client._resume import OpeningAttempts
from trunkline_client._session import SessionCore, State
from trunkline_client.errors import TrunklineError, refusal
from trunkline_client.events import Event
from trunkline_client.options import ConnectionOptions


class AsyncSession(AsyncControls, AsyncIterator[Event]):
    """A conversation, made by `AsyncClient.open`. It lives in its `async with`.

    Controls return their number, which `Error.cseq` names if the gateway refuses one.
    Leaving the block normally says `bye {now}` and waits at most `close_timeout_seconds` for
    `closed`; an exception cancels the session at once.

    Several tasks may send at the same time. Sends return when gRPC has taken the message; they
    raise what ended the session, NOT_OPEN outside of it, TIMED_OUT after `write_timeout_seconds`.
    Cancelling a send ends the session, for a half-sent message cannot be taken back; cancelling a
    wait for an event loses nothing.
    """

    def __init__(
        self,
        dialler: AsyncDialler,
        message: Open,
        options: ConnectionOptions,
        open_timeout_seconds: float,
        on_queued: Callable[[Queued], None] | None,
        opening: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """Prepare; nothing is sent before `async with`. `opening` surrounds that."""
        self._dialler = dialler
        self._message = message
        self._options = options
        self._open_timeout_seconds = open_timeout_seconds
        self._on_queued = on_queued
        self._around_opening = opening
        self._core = SessionCore()
        self._inbox = Inbox(options.receive_buffer_max_bytes)
        # gRPC allows one write at a time, and the numbers of controls must go out in order.
        self._writing = asyncio.Lock()
        self._call: AsyncCall | None = None
        # Set when gRPC has `open`. A gateway may have it a moment before.
        self._asked = asyncio.Event()
        self._opening: asyncio.Timeout | None = None
        self._receiving: asyncio.Task[None] | None = None

    @property
    def opened(self) -> Opened:
        """What the gateway answered to `open`. Raises NOT_OPEN before."""
        return self._core.opened

    @property
    def id(self) -> str:
        """The session's id. Raises NOT_OPEN before."""
        return self._core.opened.session_id

    @property
    def closed(self) -> Closed | None:
        """The gateway's last message, as soon as it has arrived."""
        return self._core.closed

    @property
    def resumed_count(self) -> int:
        """How often the session went on after a loss, or at another gateway; 0 where it is not resumable."""
        return 0

    @property
    def is_resumable(self) -> bool:
        """Whether the session goes on when its stream is lost: it was asked for, and the gateway serves it."""
        return False

    # What the caller sends.

    async def send_audio(self, data: bytes) -> None:
        """Send audio in `opened.input_format`. Above `opened.limits.message_max_bytes` it raises MESSAGE_TOO_LARGE."""
        await self._send(lambda: self._core.audio_request(data))

    def played(self, item_id: str, samples: int) -> None:
        """Tell how much of an item was played, in samples since its beginning.

        Without a word of it a resumable session takes what it has handed out for played. Elsewhere it changes nothing.
        """

    async def end_input(self) -> None:
        """Say that no more input comes: what is due is finished; `Closed` is the last event."""
        await self._send_bye(now=False)

    async def close(self) -> None:
        """End now: `bye {now}`, `close_timeout_seconds` for `closed`, then the stream is cut.

        Unread events are dropped. Never raises for the gateway's part; a second call does nothing.
        """
        if self._opening is not None:
            # Not by cancelling the call: a write that waits for its beginning would not notice.
            self._core.end(refusal("CANCELLED", "this side cancelled the call"))
            self._opening.reschedule(0)
        if self._receiving is None:
            return
        self._inbox.discard()
        try:
            with contextlib.suppress(TrunklineError, TimeoutError):
                async with asyncio.timeout(self._options.close_timeout_seconds):
                    await self._finish(self._receiving)
        finally:
            await self._cut(self._receiving)

    # What comes back.

    def __aiter__(self) -> Self:
        """Return itself: a session is read once."""
        return self

    async def __anext__(self) -> Event:
        """Return the next event. Raises what ended the session, unless it ended after `Closed`."""
        if self._receiving is None:
            raise refusal("NOT_OPEN", "enter `async with` before you read events")
        event = await self._inbox.get()
        if event is not None:
            return event
        if self._core.failure is not None:
            raise self._core.failure
        raise StopAsyncIteration

    # Begin and end.

    async def __aenter__(self) -> Self:
        """Open the session. Raises the gateway's refusal, CONNECTION_LOST, or TIMED_OUT.

        A gateway that goes away is left for another one. TIMED_OUT names the last cause where none was found.
        """
        with self._around_opening():
            return await self._begin()

    async def _begin(self) -> Self:
        request = self._core.open_request(self._message)
        attempts = OpeningAttempts(self._open_timeout_seconds, self._options, time.monotonic())
        try:
            async with asyncio.timeout(self._open_timeout_seconds) as self._opening:
                call = await open_somewhere(
                    self._dialler, lambda own: self._open_on(own, request), self._core.opens_elsewhere, attempts
                )
        except TimeoutError:
            raise self._given_up(attempts.too_late().message) from None
        finally:
            self._opening = None
            if self._core.state is not State.OPEN and self._call is not None:
                await self._call.aclose()
        self._receiving = asyncio.create_task(self._receive(call), name=f"trunkline {self.id}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the session, as the class says."""
        if kind is None:
            await self.close()
        elif self._receiving is not None:
            await self._cut(self._receiving)

    async def _open_on(self, own: aio.Channel | None, request: ConverseRequest) -> AsyncCall:
        """Open the session, over a connection of its own if there is one; a stream that was refused before is left."""
        if self._call is not None:
            await self._call.aclose()
        call = self._dialler.start(None) if own is None else await self._dialler.started(own)
        return await self._open(call, request)

    async def _open(self, call: AsyncCall, request: ConverseRequest) -> AsyncCall:
        """Open the session on a stream; return that."""
        self._call = call
        self._asked.clear()
        # A gateway that refuses at once may have ended the stream before it was written to.
        with contextlib.suppress(StreamOverError):
            await call.write(request)
        self._asked.set()
        while self._core.state is State.OPENING:
            await self._receive_opening(call)
        if self._core.failure is not None:
            raise self._core.failure
        return call

    async def _receive_opening(self, call: AsyncCall) -> None:
        response = await call.read()
        if response is None:
            raise refusal("CONNECTION_LOST", "the stream ended before `opened`")
        message = self._core.receive_opening(response)
        if isinstance(message, Queued) and self._on_queued is not None:
            self._on_queued(message)

    async def _finish(self, receiving: asyncio.Task[None]) -> None:
        if self._core.wants_bye:
            await self._send_bye(now=True)
        await asyncio.wait({receiving})

    async def _cut(self, receiving: asyncio.Task[None]) -> None:
        """Leave nothing behind, wherever the session stands. Safe to cancel."""
        self._core.abandon()
        self._inbox.discard()
        receiving.cancel()
        # A cancelled gRPC call answers within this event loop: no peer is asked.
        await asyncio.wait({receiving}, timeout=self._options.close_timeout_seconds)
        if self._call is not None:
            # Where the task had not begun yet, nobody else ends the call.
            await self._call.aclose()

    def _given_up(self, message: str) -> TrunklineError:
        failure = refusal("TIMED_OUT", message)
        self._core.end(failure)
        if self._call is not None:
            self._call.cancel()
        return self._core.failure or failure

    # The stream.

    async def _send_control(self, control: Control) -> int:
        return await self._send(lambda: self._core.control_request(control))

    async def _send_bye(self, *, now: bool) -> None:
        await self._send(lambda: self._core.bye_request(now=now))

    async def _send(self, build: Callable[[], ConverseRequest]) -> int:
        """Write what `build` returns; return the number of the last control."""
        async with self._writing:
            await self._write(build())
            return self._core.cseq

    async def _write(self, request: ConverseRequest) -> None:
        call = self._call
        assert call is not None, "the core lets nothing through before `open`"  # noqa: S101
        try:
            async with asyncio.timeout(self._options.write_timeout_seconds):
                await call.write(request)
        except TimeoutError:
            raise self._given_up("the gateway took no message for too long") from None
        except StreamOverError:
            raise await self._ending() from None

    async def _ending(self) -> TrunklineError:
        """Return what ended the stream. Its status comes behind events, which may lack room."""
        self._inbox.lift_bound()
        if self._receiving is not None:
            await asyncio.wait({self._receiving}, timeout=self._options.close_timeout_seconds)
        return self._core.failure or refusal("NOT_OPEN", "the gateway has ended the session")

    async def _receive(self, call: AsyncCall) -> None:
        """Fill the inbox until the stream ends, and note how it ended. This session's only task."""
        try:
            await self._receive_events(call)
            self._core.end(None)
        except TrunklineError as failure:
            self._core.end(failure)
        finally:
            self._inbox.end()
            call.cancel()

    async def _receive_events(self, call: AsyncCall) -> None:
        while self._core.state is not State.CLOSED:
            response = await call.read()
            if response is None:
                return
            event = self._core.receive(response)
            if event is not None:
                await self._inbox.put(event, response.ByteSize())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.close_timeout_seconds):
                await call.read()
