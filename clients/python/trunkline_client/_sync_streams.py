"""The streams of one blocking session: each begins with a message, all but the first with a claim."""

import random
import threading
import time
from collections.abc import Callable

from trunkline.v1.session_pb2 import ConverseRequest, Resumed

from trunkline_client._movable import MovableCore
from trunkline_client._resume import Attempts
from trunkline_client._sync_boxes import Feed, Stream, SyncInbox
from trunkline_client._sync_call import ConverseCall, at_most, read
from trunkline_client._sync_dialling import Dialler, OwnChannel
from trunkline_client.errors import TrunklineError, refusal


class Streams:
    """What makes them, for the thread that reads and for one that prepares a move."""

    def __init__(  # noqa: PLR0913 - what the threads of a session share
        self,
        dialler: Dialler,
        core: MovableCore,
        changed: threading.Condition,
        *,
        over: threading.Event,
        inbox: SyncInbox,
        on_idle: Callable[[], None],
        on_bear: Callable[[Stream], None],
    ) -> None:
        """Begin without one. `on_bear` is told, with the lock held, which one bears the session from now on."""
        self.dialler = dialler
        self.changed = changed
        self._core = core
        self._over = over
        self._inbox = inbox
        self._on_idle = on_idle
        self._on_bear = on_bear

    def beside(self, own: OwnChannel | None, request: ConverseRequest) -> Stream:
        """Begin a stream that bears nothing yet. `own` is closed if it cannot begin."""
        feed = Feed(self.changed, self._core, request, self._on_idle)
        try:
            call = self.dialler.start(feed, None if own is None else own.channel)
        except Exception as error:
            if own is None:
                raise
            own.close()
            if isinstance(error, TrunklineError):
                raise
            # The function that gives the token may fail for a while.
            raise refusal("CONNECTION_LOST", f"no call could be made: {type(error).__name__}") from error
        if not call.add_callback(feed.end):
            feed.end()
        return Stream(call, own, feed)

    def may_bear(self, stream: Stream) -> bool:
        """Let a stream bear the session; False if that is over, by one who did not know this stream."""
        with self.changed:
            if self._over.is_set():
                return False
            self._on_bear(stream)
            return True

    def bear(self, stream: Stream) -> None:
        """Let a stream bear the session. Raises CANCELLED if that is over."""
        if not self.may_bear(stream):
            stream.close()
            raise refusal("CANCELLED", "this side cancelled the call")

    def begin(self, own: OwnChannel | None, request: ConverseRequest) -> Stream:
        """Return a stream that bears the session from here on."""
        stream = self.beside(own, request)
        self.bear(stream)
        return stream

    def resume(self, attempts: Attempts) -> Stream:
        """Return the stream on which the session goes on. Raises what ended it."""
        while True:
            attempt = attempts.next(time.monotonic(), random.random())  # noqa: S311 - chance, no secret
            if self._over.wait(attempt.pause_seconds):
                raise refusal("CANCELLED", "this side cancelled the call")
            try:
                own, is_owner = self.dialler.dial(attempt, self.changed, self._over)
                attempts.reach(is_owner=is_owner)
                with self.changed:
                    request = self._core.resume_request()
                return self.claimed(self.begin(own, request), attempt.answer_seconds)
            except TrunklineError as failure:
                attempts.fail(failure)

    def claimed(self, stream: Stream, timeout_seconds: float) -> Stream:
        """Return a stream on which a claim was said, with its answer. Raises why there is none, and closes it."""
        resumed = None
        try:
            with at_most(timeout_seconds, stream.call.cancel):
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
        with self.changed:
            resumed = self._core.receive_resumed(response)
            if resumed is not None:
                # Without a wait for room: the gateway must not take this side for dead meanwhile.
                self._inbox.add(resumed, response.ByteSize())
        return resumed
