"""One blocking session that outlives its streams: performs what the core decides."""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Self

from trunkline.v1.event_pb2 import Queued
from trunkline.v1.session_pb2 import ConverseRequest, Open

from trunkline_client._movable import MovableCore
from trunkline_client._moving import Moving
from trunkline_client._session import State
from trunkline_client._sync_boxes import Stream, SyncInbox
from trunkline_client._sync_call import ConverseCall, at_most, read
from trunkline_client._sync_dialling import Dialler
from trunkline_client._sync_moving import Move
from trunkline_client._sync_opening import OpeningSession
from trunkline_client._sync_streams import Streams
from trunkline_client.errors import TrunklineError, refusal
from trunkline_client.events import Event
from trunkline_client.options import ConnectionOptions


class ResumableSession(OpeningSession):
    """A `Session` that goes on when its stream is lost, and says so by `Resumed`.

    Leaving the block, by an exception too, says `bye {now}`, so that nothing waits for a caller that is gone.

    Threads of its own: one reads, and resumes; one is the clock, for gRPC's reads take no timeout; one for a
    planned move.
    """

    _core: MovableCore

    def __init__(
        self,
        dialler: Dialler,
        message: Open,
        options: ConnectionOptions,
        open_timeout_seconds: float,
        on_queued: Callable[[Queued], None] | None,
        opening: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Prepare; nothing is sent before `with`."""
        super().__init__(dialler, message, options, open_timeout_seconds, on_queued, opening)
        self._core = MovableCore(options, options.send_queue_max_bytes)
        # One lock for the core; writers, readers and the clock each wait for something else.
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        self._clock = threading.Condition(lock)
        self._inbox = SyncInbox(lock, options.receive_buffer_max_bytes)
        self._stream: Stream | None = None
        self._threads: list[threading.Thread] = []
        self._ticks_at = 0.0
        self._is_silent = False
        self._streams = Streams(
            dialler,
            self._core,
            self._changed,
            over=self._over,
            inbox=self._inbox,
            on_idle=self._set_clock,
            on_bear=self._borne_by,
        )
        # Whether a thread of its own reads, or is about to.
        self._is_read = False
        # Which a move has left, and the move.
        self._left: ConverseCall | None = None
        self._move: Move | None = None

    @property
    def resumed_count(self) -> int:
        """How often the session went on after a loss, or at another gateway."""
        return self._core.resumed_count

    @property
    def is_resumable(self) -> bool:
        """Do as `Session.is_resumable` says."""
        return self._core.in_force

    def played(self, item_id: str, samples: int) -> None:
        """Do as `Session.played` says."""
        with self._changed:
            self._core.note_played(item_id, samples, time.monotonic())
            self._set_clock()

    # Begin and end.

    def _begin(self) -> Self:
        with self._changed:
            request = self._core.open_request(self._message)
        try:
            stream = self._open_somewhere(lambda own: self._opened_stream(own, request))
            self._start_threads(stream)
        except BaseException:
            # Ctrl-C may come in the very moment of opening, and nobody leaves a block that was not entered.
            self._leave_opened()
            raise
        finally:
            if self._core.state is not State.OPEN:
                self._cut()
        return self

    def _start_threads(self, stream: Stream) -> None:
        reading = threading.Thread(target=self._receive_all, args=(stream,), name=f"trunkline {self.id}", daemon=True)
        ticking = threading.Thread(target=self._tick, name=f"trunkline {self.id} clock", daemon=True)
        self._threads = [reading, ticking]
        self._is_read = True
        for thread in self._threads:
            thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the session, as the class says."""
        super().__exit__(None if self._core.in_force else kind, error, trace)

    def _finish(self, call: ConverseCall) -> None:
        del call
        with self._changed:
            if self._core.wants_bye:
                self._core.bye_request(now=True)
                self._changed.notify_all()
        self._inbox.discard()
        for thread in self._threads[:1]:
            thread.join(self._options.close_timeout_seconds)

    def _cut(self) -> None:
        super()._cut()
        self._inbox.discard()
        with self._changed:
            self._clock.notify_all()
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():  # Ctrl-C may have come before it was started
                thread.join(self._options.close_timeout_seconds)

    def _let_go(self) -> None:
        if self._stream is not None:
            self._stream.close()

    # Writing, and the clock.

    def _send(self, build: Callable[[], ConverseRequest]) -> int:
        with self._changed:
            if not self._changed.wait_for(self._has_room, self._options.write_timeout_seconds):
                self._give_up("the gateway took no message for too long")
            build()
            self._changed.notify_all()
            return self._core.cseq

    def _has_room(self) -> bool:
        return self._core.has_room

    def _set_clock(self) -> None:
        """See that the core is asked when it is due."""
        now = time.monotonic()
        due_at = self._core.due_at(now)
        if due_at <= now:
            self._changed.notify_all()
        elif due_at < self._ticks_at:
            self._clock.notify()

    def _tick(self) -> None:
        with self._changed:
            while not self._over.is_set():
                now = time.monotonic()
                if self._core.is_silent(now) and self._call is not None:
                    self._is_silent = True
                    self._call.cancel()
                due_at = self._core.due_at(now)
                if due_at <= now:
                    self._changed.notify_all()
                    # gRPC's thread may be held up by the gateway.
                    due_at = now + self._options.ack_interval_seconds
                self._ticks_at = due_at
                self._core.expect(due_at)
                self._clock.wait(due_at - now)

    # Reading, and going on.

    def _next_event(self, call: ConverseCall) -> Event | None:
        del call
        return self._inbox.get()

    def _receive_all(self, stream: Stream) -> None:
        """Fill the inbox until the session ends, and note how."""
        try:
            while True:
                failure = self._bear(stream)
                with self._changed:
                    attempts = self._core.attempts(failure, time.monotonic())
                    if attempts is None:
                        return self._core.end(failure)
                stream = self._moved() or self._streams.resume(attempts)
        except TrunklineError as failure:
            self._end(failure)
        finally:
            self._inbox.end()
            self._over.set()
            self._end_move()
            with self._changed:
                self._clock.notify_all()

    def _bear(self, stream: Stream) -> TrunklineError | None:
        """Bear the session on one stream; return how that ended, None = status OK."""
        with self._changed:
            self._core.attach(time.monotonic())
            self._is_silent = False
            self._inbox.hold_up(holds_up=True)
            stream.feed.attach()
            self._clock.notify()
        try:
            self._receive_events(stream.call)
        except TrunklineError as failure:
            if self._is_silent:
                return refusal("TIMED_OUT", "the gateway fell silent")
            if self._call is not stream.call:
                return refusal("CONNECTION_LOST", "the session has moved, and not gone on")
            return failure
        finally:
            with self._changed:
                self._core.detach()
                self._changed.notify_all()
            stream.close()
        return None

    def _receive_events(self, call: ConverseCall) -> None:
        while self._core.state is not State.CLOSED:
            with self._changed:
                self._core.listen(time.monotonic())
            response = read(call)
            with self._changed:
                self._core.hear()
                if response is None or self._call is not call:
                    # It has ended, or been left for another one: there all that is not applied comes again.
                    return
                size_bytes = response.ByteSize()
                event = self._core.take_in(response, size_bytes, time.monotonic())
                if response.HasField("ack"):
                    # There may be room for those who send.
                    self._changed.notify_all()
                self._set_clock()
                if self._core.moving is not None and not response.HasField("audio"):
                    self._look_at_move(self._core.moving)
            if event is not None:
                self._inbox.put(event, size_bytes)
        with at_most(self._options.close_timeout_seconds, call.cancel):
            read(call)

    def _borne_by(self, stream: Stream) -> None:
        self._left = self._call
        self._stream, self._call = stream, stream.call
        self._inbox.hold_up(holds_up=False)

    # Moving.

    def _look_at_move(self, moving: Moving) -> None:
        if self._move is None:
            self._move = Move(self._streams, self._core, moving, self._cut_left, self._options.close_timeout_seconds)
        self._changed.notify_all()

    def _cut_left(self) -> None:
        if self._left is not None:
            self._left.cancel()

    def _moved(self) -> Stream | None:
        """Return the stream that was prepared, if the session goes on there."""
        try:
            return None if self._move is None else self._move.take_over()
        except TrunklineError:
            # Nothing is lost but time: the session is looked for as after any loss.
            return None
        finally:
            self._end_move()

    def _end_move(self) -> None:
        if self._move is not None:
            self._move.close()
        with self._changed:
            self._core.moving = self._move = None
