"""One blocking session that outlives its streams: performs what the core decides."""

import random
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Self

from trunkline.v1.event_pb2 import Queued
from trunkline.v1.session_pb2 import ConverseRequest, Open, Resumed

from trunkline_client._resumable import ResumableCore
from trunkline_client._resume import Attempts
from trunkline_client._session import State
from trunkline_client._sync_boxes import Feed, Stream, SyncInbox
from trunkline_client._sync_call import ConverseCall, at_most, read
from trunkline_client._sync_dialling import Dialler, OwnChannel
from trunkline_client._sync_session import Session
from trunkline_client.errors import TrunklineError, refusal
from trunkline_client.events import Event
from trunkline_client.options import ConnectionOptions


class ResumableSession(Session):
    """A `Session` that goes on when its stream is lost, and says so by `Resumed`.

    Leaving the block, by an exception too, says `bye {now}`, so that nothing waits for a caller that is gone.

    Two threads of its own: one reads, and resumes; one is the clock, for gRPC's reads take no timeout.
    """

    _core: ResumableCore

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
        super().__init__(
            lambda feed: dialler.start(feed, None), message, options, open_timeout_seconds, on_queued, opening
        )
        self._dialler = dialler
        self._core = ResumableCore(options, options.send_queue_max_bytes)
        # One lock for the core; writers, readers and the clock each wait for something else.
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        self._clock = threading.Condition(lock)
        self._inbox = SyncInbox(lock, options.receive_buffer_max_bytes)
        self._over = threading.Event()
        self._stream: Stream | None = None
        self._threads: list[threading.Thread] = []
        self._ticks_at = 0.0
        self._is_silent = False

    @property
    def resumed_count(self) -> int:
        """How often the session went on after its stream was lost."""
        return self._core.resumed_count

    def played(self, item_id: str, samples: int) -> None:
        """Do as `Session.played` says."""
        with self._changed:
            self._core.note_played(item_id, samples, time.monotonic())
            self._set_clock()

    # Begin and end.

    def _begin(self) -> Self:
        with self._changed:
            request = self._core.open_request(self._message)
        stream = self._started(None, request)
        try:
            with at_most(self._open_timeout_seconds, self._give_up_opening):
                self._open(stream.call)
        finally:
            if self._core.state is not State.OPEN:
                self._cut()
        reading = threading.Thread(target=self._receive_all, args=(stream,), name=f"trunkline {self.id}", daemon=True)
        ticking = threading.Thread(target=self._tick, name=f"trunkline {self.id} clock", daemon=True)
        self._threads = [reading, ticking]
        for thread in self._threads:
            thread.start()
        return self

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
        self._over.set()
        super()._cut()
        self._inbox.discard()
        with self._changed:
            self._clock.notify_all()
            self._changed.notify_all()
        for thread in self._threads:
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
                stream = self._resume(attempts)
        except TrunklineError as failure:
            self._end(failure)
        finally:
            self._inbox.end()
            self._over.set()
            with self._changed:
                self._clock.notify_all()

    def _bear(self, stream: Stream) -> TrunklineError | None:
        """Bear the session on one stream; return how that ended, None = status OK."""
        with self._changed:
            self._core.attach(time.monotonic())
            self._is_silent = False
            stream.feed.attach()
            self._clock.notify()
        try:
            self._receive_events(stream.call)
        except TrunklineError as failure:
            return refusal("TIMED_OUT", "the gateway fell silent") if self._is_silent else failure
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
                if response is None:
                    return
                size_bytes = response.ByteSize()
                event = self._core.take_in(response, size_bytes, time.monotonic())
                if response.HasField("ack"):
                    # There may be room for those who send.
                    self._changed.notify_all()
                self._set_clock()
            if event is not None:
                self._inbox.put(event, size_bytes)
        with at_most(self._options.close_timeout_seconds, self._cancel_call):
            read(call)

    def _cancel_call(self) -> None:
        if self._call is not None:
            self._call.cancel()

    def _resume(self, attempts: Attempts) -> Stream:
        """Return the stream on which the session goes on. Raises what ended it."""
        while True:
            attempt = attempts.next(time.monotonic(), random.random())  # noqa: S311 - chance, no secret
            if self._over.wait(attempt.pause_seconds):
                raise refusal("CANCELLED", "this side cancelled the call")
            try:
                own, is_owner = self._dialler.dial(attempt, self._changed, self._over)
                attempts.reach(is_owner=is_owner)
                return self._claim(own, attempt.answer_seconds)
            except TrunklineError as failure:
                attempts.fail(failure)

    def _claim(self, own: OwnChannel, timeout_seconds: float) -> Stream:
        with self._changed:
            request = self._core.resume_request()
        stream = self._restarted(own, request)
        resumed = None
        try:
            with at_most(timeout_seconds, self._cancel_call):
                while resumed is None:
                    resumed = self._receive_resumed(stream.call)
        except TrunklineError as failure:
            if failure.reason != "CANCELLED":
                raise
            # By that clock: who cuts the session asks for no reason.
            raise refusal("TIMED_OUT", "no answer to `resume` in time") from None
        finally:
            if resumed is None:
                stream.close()
        return stream

    def _receive_resumed(self, call: ConverseCall) -> Resumed | None:
        response = read(call)
        if response is None:
            raise refusal("CONNECTION_LOST", "the stream ended before `resumed`")
        with self._changed:
            resumed = self._core.receive_resumed(response)
            if resumed is not None:
                # Without a wait for room: the gateway must not take this side for dead meanwhile.
                self._inbox.add(resumed, response.ByteSize())
        return resumed

    def _restarted(self, own: OwnChannel, request: ConverseRequest) -> Stream:
        try:
            return self._started(own, request)
        except Exception as error:
            own.close()
            if isinstance(error, TrunklineError):
                raise
            # The function that gives the token may fail for a while.
            raise refusal("CONNECTION_LOST", f"no call could be made: {type(error).__name__}") from error

    def _started(self, own: OwnChannel | None, request: ConverseRequest) -> Stream:
        feed = Feed(self._changed, self._core, request, self._set_clock)
        call = self._dialler.start(feed, None if own is None else own.channel)
        stream = Stream(call, own, feed)
        if not call.add_callback(feed.end):
            feed.end()
        with self._changed:
            self._stream, self._call = stream, call
        if self._over.is_set():
            # Cut meanwhile, by one who did not know this call.
            stream.close()
            raise refusal("CANCELLED", "this side cancelled the call")
        return stream
