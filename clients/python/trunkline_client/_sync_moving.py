"""A planned move of a blocking session: a second stream, up to its claim. Performs what the core decides."""

import random
import threading
import time
from collections.abc import Callable

from trunkline_client._movable import MovableCore
from trunkline_client._moving import Moving
from trunkline_client._resume import Attempt
from trunkline_client._sync_boxes import Stream
from trunkline_client._sync_call import at_most, read
from trunkline_client._sync_streams import Streams
from trunkline_client.errors import TrunklineError, refusal


class Move:
    """One move; its thread prepares, waits for the moment and claims. Whoever began it calls `take_over` or `close`."""

    def __init__(
        self,
        streams: Streams,
        core: MovableCore,
        moving: Moving,
        on_claimed: Callable[[], None],
        join_seconds: float,
    ) -> None:
        """Begin. `on_claimed` has the first stream cut: it bears nothing any more."""
        self._streams = streams
        self._changed = streams.changed
        self._core = core
        self._moving = moving
        self._on_claimed = on_claimed
        self._join_seconds = join_seconds
        self._given_up = threading.Event()
        self._stream: Stream | None = None
        self._is_prepared = self._is_claimed = False
        self._thread = threading.Thread(target=self._run, name="trunkline moves", daemon=True)
        self._thread.start()

    def take_over(self) -> Stream:
        """Return the second stream, once `resumed` has come on it. Raises why it is of no use.

        The first one is over: what is prepared is claimed now, if it is not already.
        """
        self._give_up()
        with self._changed:
            stream = self._stream if self._is_prepared else None
        if stream is None:
            raise refusal("CONNECTION_LOST", "nothing is prepared")
        if not self._is_claimed:
            self._claim(stream)
        self._streams.claimed(stream, self._moving.claim_seconds)
        self._stream = None
        return stream

    def close(self) -> None:
        """Leave nothing behind, but what was taken over."""
        self._give_up()
        self._drop()

    def _give_up(self) -> None:
        """Prepare no more, and wait until the thread has seen it."""
        self._given_up.set()
        with self._changed:
            if self._stream is not None and not self._is_prepared:
                self._stream.call.cancel()
            self._changed.notify_all()
        self._thread.join(self._join_seconds)

    def _drop(self) -> None:
        with self._changed:
            stream, self._stream = self._stream, None
            self._is_prepared = False
        if stream is not None:
            stream.close()

    def _run(self) -> None:
        while self._core.may_move and not self._given_up.is_set():
            attempt = self._moving.next(time.monotonic(), random.random())  # noqa: S311 - chance, no secret
            if attempt is None or self._given_up.wait(attempt.pause_seconds):
                return
            try:
                stream = self._prepared(attempt)
                if self._waited(stream):
                    self._claim(stream)
                    self._on_claimed()
                    return
            except TrunklineError as failure:
                self._moving.fail(failure)
            if not (self._is_prepared and self._given_up.is_set()):
                self._drop()

    def _prepared(self, attempt: Attempt) -> Stream:
        """Return a stream to a gateway that is ready."""
        own, _ = self._streams.dialler.dial(attempt, self._changed, self._given_up)
        with self._changed:
            request = self._core.prepare_request()
        stream = self._streams.beside(own, request)
        with self._changed:
            self._stream = stream
        if self._given_up.is_set():
            raise refusal("CANCELLED", "the first stream is over")
        with at_most(attempt.answer_seconds, stream.call.cancel):
            while not self._moving.receive(read(stream.call)):
                pass
        with self._changed:
            self._moving.prepared(time.monotonic())
            self._is_prepared = True
        return stream

    def _waited(self, stream: Stream) -> bool:
        """Wait for the moment to claim; False = it is not for this thread any more. Raises if the stream has ended."""
        with self._changed:
            while self._core.may_move and not self._given_up.is_set():
                if stream.feed.is_over:
                    raise refusal("CONNECTION_LOST", "the stream ended before it was claimed")
                left_seconds = self._core.claim_at - time.monotonic()
                if left_seconds <= 0:
                    return True
                self._changed.wait(left_seconds)
        return False

    def _claim(self, stream: Stream) -> None:
        """Claim the session. From here on nothing counts that comes on the first stream."""
        with self._changed:
            self._is_claimed = True
            self._core.detach()
        self._streams.bear(stream)
        with self._changed:
            stream.feed.say(self._core.resume_request(self._moving.read_bytes))
            # Reading tells what became of it.
            self._changed.wait_for(stream.feed.has_said, self._moving.claim_seconds)
