"""How a blocking session begins that may outlive its stream: as the gateway serves it, and not left half open."""

import contextlib
import threading
import time
from typing import Final

from trunkline.v1.session_pb2 import ConverseRequest

from trunkline_client._movable import MovableCore
from trunkline_client._requests import UNASK
from trunkline_client._session import State
from trunkline_client._sync_boxes import Stream
from trunkline_client._sync_call import at_most, read
from trunkline_client._sync_dialling import OwnChannel
from trunkline_client._sync_session import Session
from trunkline_client._sync_streams import Streams
from trunkline_client.errors import TrunklineError, refusal

# How long a thread may take to start.
STARTED_SECONDS: Final = 0.5


class OpeningSession(Session):
    """A `Session` that is plain where the gateway does not serve more."""

    _core: MovableCore
    _streams: Streams
    _stream: Stream | None
    # The last one on which `bye` was said before its session was open here.
    _unasked: Stream | None = None
    _is_read: bool
    _threads: list[threading.Thread]

    def _opened_stream(self, own: OwnChannel | None, request: ConverseRequest) -> Stream:
        """Open the session, over a connection of its own if there is one; return the stream that bears it."""
        if self._stream is not None:  # a gateway that goes away has refused it
            self._stream.close()
        stream = self._begun(own, request)
        try:
            self._open(stream.call)
        except TrunklineError as refused:
            with self._changed:
                plain = None if self._over.is_set() else self._core.reopen_request(self._message, refused)
            if plain is None:
                if self._core.failure is refused:
                    self._say_bye(stream)
                    self._read_out(stream)
                raise
        except BaseException:
            self._leave_unread(stream)
            raise
        else:
            return stream
        stream.call.cancel()
        stream.feed.end()
        return self._opened_plainly(own, plain)

    def _opened_plainly(self, own: OwnChannel | None, request: ConverseRequest) -> Stream:
        """Ask the gateway that refused the features, over the same connection."""
        stream = self._begun(own, request)
        self._open(stream.call)
        return stream

    def _begun(self, own: OwnChannel | None, request: ConverseRequest) -> Stream:
        """Return a stream that bears the session. Raises CANCELLED if that was given up meanwhile."""
        stream = self._streams.beside(own, request)
        if self._streams.may_bear(stream):
            return stream
        self._say_bye(stream)
        self._read_out(stream)
        stream.close()
        raise refusal("CANCELLED", "this side cancelled the call")

    def _cut(self) -> None:
        if self._core.state is State.OPENING:
            with self._changed:
                self._over.set()
                self._end(refusal("CANCELLED", "this side cancelled the call"))
                self._changed.notify_all()
            self._unask()
        super()._cut()

    # A session that may have begun is said `bye` to: it would be parked, and nobody could ever resume it.

    def _unask(self) -> None:
        """Say `bye` for the thread that reads what comes of it; cut the stream if nothing does."""
        stream = self._stream
        if stream is not None:
            with self._changed:
                self._say_bye(stream)
                self._changed.wait_for(lambda: stream.feed.is_over, self._options.close_timeout_seconds)
            stream.call.cancel()

    def _say_bye(self, stream: Stream) -> None:
        with self._changed:
            if stream is self._unasked:
                return
            if stream.feed.has_said():
                self._unasked = stream
                stream.feed.say(UNASK)
            else:
                # It never says `open`, then.
                stream.feed.end()

    def _leave_opened(self) -> None:
        """Say `bye` in a session that is open, if it is, and that nobody is going to use."""
        stream = self._stream
        if self._core.state is not State.OPEN or stream is None:
            return
        if self._is_read:
            # Ctrl-C may have come while its thread was starting: it does start.
            until = time.monotonic() + STARTED_SECONDS
            while not self._threads[0].is_alive() and time.monotonic() < until:
                time.sleep(STARTED_SECONDS / 50)
            self.close()
        else:
            self._say_bye(stream)
            self._read_out(stream)

    def _leave_unread(self, stream: Stream) -> None:
        """Say `bye` behind a read that Ctrl-C has interrupted: it is still under way, and gRPC takes none beside it."""
        self._say_bye(stream)
        with self._changed:
            self._core.abandon()
            self._changed.wait_for(lambda: stream.feed.is_over, self._options.close_timeout_seconds)
        stream.call.cancel()

    def _read_out(self, stream: Stream) -> None:
        """Read until the stream is over; nothing of it counts."""
        with self._changed:
            self._core.abandon()
        with (
            contextlib.suppress(TrunklineError),
            at_most(self._options.close_timeout_seconds, stream.call.cancel),
        ):
            while read(stream.call) is not None:
                pass
