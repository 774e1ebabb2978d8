"""One blocking session: performs what the core decides."""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Self, TypeVar

import grpc
from trunkline.v1.control_pb2 import Control
from trunkline.v1.event_pb2 import Closed, Queued
from trunkline.v1.session_pb2 import ConverseRequest, ConverseResponse, Open, Opened

from trunkline_client._outbox import Outbox
from trunkline_client._session import SessionCore, State
from trunkline_client._status import error_of
from trunkline_client._sync_call import ConverseCall, at_most, ending
from trunkline_client._sync_controls import Controls
from trunkline_client._sync_dialling import Dialler, OwnChannel
from trunkline_client._sync_elsewhere import Opening
from trunkline_client.errors import TrunklineError, refusal
from trunkline_client.events import Event
from trunkline_client.options import ConnectionOptions

_Opened = TypeVar("_Opened")


class Session(Controls, Iterator[Event]):
    """A conversation. Made by `Client.open`; it begins with `with` and ends with that block.

    Controls return their number, which `Error.cseq` names if the gateway refuses one.
    Leaving the block normally says `bye {now}` and waits at most `close_timeout_seconds` for
    `closed`; an exception cancels the session at once.

    Any thread may send or close while another one iterates. Sends return when the message is queued
    for gRPC, which they may have to wait for, at most `write_timeout_seconds`; NOT_OPEN outside of
    the session. That a send returns proves nothing: what ended the session is told by iteration,
    and by sends after it.
    """

    def __init__(
        self,
        dialler: Dialler,
        message: Open,
        options: ConnectionOptions,
        open_timeout_seconds: float,
        on_queued: Callable[[Queued], None] | None,
        opening: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Prepare; nothing is sent before `with`. `opening` surrounds that."""
        self._dialler = dialler
        self._message = message
        self._options = options
        self._open_timeout_seconds = open_timeout_seconds
        self._on_queued = on_queued
        self._around_opening = opening
        # One lock for the core and the outbox: numbers must go out in the order they were given.
        self._changed = threading.Condition()
        self._core = SessionCore()
        self._outbox = Outbox(self._changed, options.send_queue_max_bytes)
        self._reading = threading.Lock()
        self._call: ConverseCall | None = None
        # The connection that bears this session alone, if one does.
        self._own: OwnChannel | None = None
        # Set when nothing more is to be tried.
        self._over = threading.Event()

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
        """The gateway's last message, as soon as iteration has come to it."""
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

    def send_audio(self, data: bytes) -> None:
        """Send audio in `opened.input_format`. Above `opened.limits.message_max_bytes` it raises MESSAGE_TOO_LARGE."""
        self._send(lambda: self._core.audio_request(data))

    def played(self, item_id: str, samples: int) -> None:
        """Tell how much of an item was played, in samples since its beginning.

        Without a word of it a resumable session takes what it has handed out for played. Elsewhere it changes nothing.
        """

    def end_input(self) -> None:
        """Say that no more input comes: what is due is finished; `Closed` is the last event."""
        self._send(lambda: self._core.bye_request(now=False))

    def close(self) -> None:
        """End now: `bye {now}`, `close_timeout_seconds` for `closed`, then the stream is cut.

        Unread events are dropped. Never raises for the gateway's part; a second call does nothing.
        """
        try:
            # One that is still opening is read by the thread that opens it.
            if self._call is not None and self._core.state not in {State.OPENING, State.ENDED}:
                self._finish(self._call)
        finally:
            self._cut()

    # What comes back.

    def __iter__(self) -> Self:
        """Return itself: a session is read once."""
        return self

    def __next__(self) -> Event:
        """Block until the next event. Raises what ended the session if not `Closed` did.

        Bounded by `session_timeout_seconds`, and by the pings that find a dead gateway.
        """
        call = self._call
        if call is None:
            raise refusal("NOT_OPEN", "enter `with` before you read events")
        with self._reading:
            event = self._next_event(call)
        if event is not None:
            return event
        if self._core.failure is not None:
            raise self._core.failure
        raise StopIteration

    # Begin and end.

    def __enter__(self) -> Self:
        """Open the session. Raises the gateway's refusal, CONNECTION_LOST, or TIMED_OUT.

        A gateway that goes away is left for another one. TIMED_OUT names the last cause where none was found.
        """
        with self._around_opening():
            return self._begin()

    def _begin(self) -> Self:
        with self._changed:
            request = self._core.open_request(self._message)
        try:
            self._open_somewhere(lambda own: self._open_on(own, request))
        finally:
            if self._core.state is not State.OPEN:
                self._cut()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the session, as the class says."""
        if kind is None:
            self.close()
        else:
            self._cut()

    def _open_somewhere(self, open_on: Callable[[OwnChannel | None], _Opened]) -> _Opened:
        opening = Opening(self._dialler, self._core, self._changed, self._over)
        return opening.run(open_on, self._unask, self._open_timeout_seconds, self._options)

    def _open_on(self, own: OwnChannel | None, request: ConverseRequest) -> None:
        """Open the session on a stream; one that was refused before is left."""
        outbox = Outbox(self._changed, self._options.send_queue_max_bytes)
        with self._changed:
            left, self._own, self._outbox = self._own, own, outbox
            outbox.put(request)
        if left is not None:
            left.close()
        self._call = call = self._dialler.start(outbox, None if own is None else own.channel)
        let_go = functools.partial(self._end_outbox, outbox)
        if not call.add_callback(let_go):
            let_go()
        self._open(call)

    def _open(self, call: ConverseCall) -> None:
        while self._core.state is State.OPENING:
            response = self._receive(call)
            if response is not None:
                self._note_opening(response)
        if self._core.state is not State.OPEN:
            raise self._core.failure or refusal("CANCELLED", "this side cancelled the call")

    def _note_opening(self, response: ConverseResponse) -> None:
        message = None
        with self._changed:
            if self._core.state is State.OPENING:
                message = self._core.receive_opening(response)
        if isinstance(message, Queued) and self._on_queued is not None:
            self._on_queued(message)

    def _finish(self, call: ConverseCall) -> None:
        """Say bye and read until the end, or let the thread that reads already do it."""
        with self._changed:
            if self._core.wants_bye:
                self._outbox.put(self._core.bye_request(now=True))
        with at_most(self._options.close_timeout_seconds, self._cut), self._reading:
            while self._next_event(call) is not None:
                pass

    def _cut(self) -> None:
        """Leave nothing behind, wherever the session stands."""
        with self._changed:
            self._over.set()
            if self._core.state is not State.NOT_OPENED:
                self._core.abandon()
            own, self._own = self._own, None
            self._changed.notify_all()
        # Before the outbox ends, which gRPC would tell the gateway as a polite end of the input.
        if self._call is not None:
            self._call.cancel()
            self._let_go()
        if own is not None:
            own.close()

    def _let_go(self) -> None:
        self._end_outbox(self._outbox)

    def _end_outbox(self, outbox: Outbox) -> None:
        with self._changed:
            outbox.end()

    def _unask(self) -> None:
        if self._call is not None:
            self._call.cancel()

    def _give_up(self, message: str) -> None:
        self._end(refusal("TIMED_OUT", message))
        if self._call is not None:
            self._call.cancel()

    def _end(self, failure: TrunklineError | None) -> None:
        with self._changed:
            self._core.end(failure)

    # The stream.

    def _send_control(self, control: Control) -> int:
        return self._send(lambda: self._core.control_request(control))

    def _send(self, build: Callable[[], ConverseRequest]) -> int:
        """Queue what `build` returns once there is room; return the number of the last control."""
        with self._changed:
            if not self._outbox.await_room(self._options.write_timeout_seconds):
                self._give_up("the gateway took no message for too long")
            if self._outbox.ended and self._core.wants_bye and self._call is not None:
                raise ending(self._call)
            self._outbox.put(build())
            return self._core.cseq

    def _next_event(self, call: ConverseCall) -> Event | None:
        """Return the next event; None = the stream is over, and the core knows how."""
        while self._core.state is not State.CLOSED:
            response = self._receive(call)
            if response is None:
                return None
            event = self._interpreted(call, response)
            if event is not None:
                return event
        with at_most(self._options.close_timeout_seconds, self._cut):
            self._receive(call)
        return None

    def _interpreted(self, call: ConverseCall, response: ConverseResponse) -> Event | None:
        with self._changed:
            try:
                return self._core.receive(response)
            except TrunklineError as failure:
                self._core.end(failure)
                call.cancel()
                return None

    def _receive(self, call: ConverseCall) -> ConverseResponse | None:
        try:
            return next(call)
        except StopIteration:
            self._end(None)
        except grpc.RpcError as failure:
            self._end(error_of(failure))
        return None
