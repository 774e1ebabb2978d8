"""One session as its caller sees it: states, numbers, what may be sent, what an answer means.

Pure: no I/O, no clock, no asyncio. Both shells ask it before they send and tell it what they
received. `_resumable.py` adds what a session that outlives its stream needs.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, cast

from trunkline.v1.control_pb2 import Control
from trunkline.v1.event_pb2 import Closed, Queued
from trunkline.v1.session_pb2 import Bye, ConverseRequest, ConverseResponse, Open, Opened

from trunkline_client.errors import TrunklineError, refusal
from trunkline_client.events import Event


class State(Enum):
    """Where the session stands, seen from here."""

    NOT_OPENED = auto()
    OPENING = auto()
    OPEN = auto()
    INPUT_ENDED = auto()
    CLOSED = auto()
    ENDED = auto()


class Move(Enum):
    """What changes the state."""

    SEND_OPEN = auto()
    SEND_BYE = auto()
    RECEIVE_QUEUED = auto()
    RECEIVE_OPENED = auto()
    RECEIVE_CLOSED = auto()


_S, _M = State, Move

# An empty cell is refused: NOT_OPEN or ALREADY_OPEN for what is sent, INTERNAL for what is
# received.
TABLE: Final[Mapping[tuple[State, Move], State]] = {
    (_S.NOT_OPENED, _M.SEND_OPEN): _S.OPENING,
    (_S.OPENING, _M.RECEIVE_QUEUED): _S.OPENING,
    (_S.OPENING, _M.RECEIVE_OPENED): _S.OPEN,
    (_S.OPEN, _M.SEND_BYE): _S.INPUT_ENDED,
    (_S.OPEN, _M.RECEIVE_CLOSED): _S.CLOSED,
    # A second bye cuts what the first one asked to finish.
    (_S.INPUT_ENDED, _M.SEND_BYE): _S.INPUT_ENDED,
    (_S.INPUT_ENDED, _M.RECEIVE_CLOSED): _S.CLOSED,
}

_RECEIVED: Final[Mapping[str, Move]] = {
    "queued": _M.RECEIVE_QUEUED,
    "opened": _M.RECEIVE_OPENED,
    "closed": _M.RECEIVE_CLOSED,
}

_REFUSED: Final[Mapping[State, str]] = {
    _S.NOT_OPENED: "the session is not open: enter `async with` or `with` first",
    _S.OPENING: "the session is not open yet",
    _S.OPEN: "the session is open already",
    _S.INPUT_ENDED: "the input of this session has ended",
    _S.CLOSED: "the session is closed",
    _S.ENDED: "the session has ended",
}


class SessionCore:
    """The machine. `*_request` methods return the message to send now, in this order."""

    def __init__(self) -> None:
        """Begin before `open`."""
        self.state = State.NOT_OPENED
        self.closed: Closed | None = None
        self.failure: TrunklineError | None = None
        # The highest number given to a control, and the highest number received.
        self.cseq = 0
        self.last_seq = 0
        self._opened: Opened | None = None
        self._message_max_bytes = 0

    @property
    def wants_bye(self) -> bool:
        """Whether the gateway still waits for this side."""
        return (self.state, Move.SEND_BYE) in TABLE

    @property
    def opened(self) -> Opened:
        """What the gateway answered to `open`. Raises NOT_OPEN before."""
        if self._opened is None:
            raise refusal("NOT_OPEN", _REFUSED[self.state])
        return self._opened

    # What is sent.

    def open_request(self, message: Open) -> ConverseRequest:
        """Return the first message. Raises ALREADY_OPEN: a session is opened once."""
        if self.state is not State.NOT_OPENED:
            raise refusal("ALREADY_OPEN", "open each session once; ask the client for a new one")
        self.state = TABLE[self.state, Move.SEND_OPEN]
        return ConverseRequest(open=message)

    def opens_elsewhere(self, refused: TrunklineError) -> bool:
        """Tell whether the first message is to be sent again, over another connection, and make ready for that.

        It was refused by a gateway that goes away, which has taken nothing. A pool that goes away carries its
        numbers, and does so at every gateway.
        """
        is_refused = self.state is State.OPENING or self.failure is refused
        if refused.reason != "DRAINING" or refused.numbers is not None or not is_refused:
            return False
        self.state, self.failure = State.OPENING, None
        return True

    def audio_request(self, data: bytes) -> ConverseRequest:
        """Return audio to send. Raises NOT_OPEN, MESSAGE_TOO_LARGE, or what ended the session."""
        self._check_input(len(data))
        return ConverseRequest(audio=data)

    def control_request(self, control: Control) -> ConverseRequest:
        """Return a numbered control. Raises as `audio_request` does."""
        self._check_input(control.ByteSize())
        self.cseq += 1
        return ConverseRequest(control=control, cseq=self.cseq)

    def bye_request(self, *, now: bool) -> ConverseRequest:
        """Return the end of the input. Raises NOT_OPEN, or what ended the session."""
        following = TABLE.get((self.state, Move.SEND_BYE))
        if following is None:
            raise self._not_open()
        self.state = following
        self.cseq += 1
        return ConverseRequest(bye=Bye(now=now), cseq=self.cseq)

    def _check_input(self, size_bytes: int) -> None:
        if self.state is not State.OPEN:
            raise self._not_open()
        # Checked here because the gateway would end the whole session for it.
        if 0 < self._message_max_bytes < size_bytes:
            message = f"{size_bytes} bytes in one message; opened.limits allows {self._message_max_bytes}"
            raise refusal("MESSAGE_TOO_LARGE", message)

    def _not_open(self) -> TrunklineError:
        return self.failure or refusal("NOT_OPEN", _REFUSED[self.state])

    # What is received.

    def receive_opening(self, response: ConverseResponse) -> Opened | Queued | None:
        """Return what the gateway says before the session is open; None = an acknowledgement only.

        Raises INTERNAL if the gateway breaks the contract's order.
        """
        kind = self._kind(response)
        if kind is None:
            return None
        if kind == "queued":
            self._note(Move.RECEIVE_QUEUED, kind)
            return response.queued
        self._note(_RECEIVED.get(kind), kind)
        self._opened = response.opened
        self._message_max_bytes = self._opened.limits.message_max_bytes
        return self._opened

    def receive(self, response: ConverseResponse) -> Event | None:
        """Return the event of an open session; None = an acknowledgement only. Raises as above."""
        kind = self._kind(response)
        return None if kind is None else self._event(kind, response)

    def _event(self, kind: str, response: ConverseResponse) -> Event:
        if kind in _RECEIVED:
            self._note(_RECEIVED[kind], kind)
            self.closed = response.closed
        return cast("Event", getattr(response, kind))

    def _kind(self, response: ConverseResponse) -> str | None:
        if response.seq:
            if response.seq <= self.last_seq:
                raise refusal("INTERNAL", f"the gateway sent seq {response.seq} after {self.last_seq}")
            self.last_seq = response.seq
        # None is also what a message of a newer contract looks like.
        return response.WhichOneof("message")

    def _note(self, move: Move | None, kind: str) -> None:
        following = None if move is None else TABLE.get((self.state, move))
        if following is None:
            raise refusal("INTERNAL", f"the gateway sent {kind} in state {self.state.name}")
        self.state = following

    # How it ends.

    def end(self, failure: TrunklineError | None) -> None:
        """Note that the stream is over: None = status OK. The first end wins."""
        if self.state is State.ENDED:
            return
        if failure is None and self.state is not State.CLOSED:
            # A clean end that nobody announced is a loss, whatever the status says.
            failure = refusal("CONNECTION_LOST", "the stream ended without `closed`")
        self.failure = failure
        self.state = State.ENDED

    def abandon(self) -> None:
        """Note that this side cuts the stream: whatever comes later is no failure."""
        self.state = State.ENDED
