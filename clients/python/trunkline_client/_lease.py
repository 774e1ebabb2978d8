"""One reservation as its holder sees it: states, when to renew it, what an answer means.

Pure: no I/O, and no clock but `now`, in seconds that only rise. Both shells ask it and tell it.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum, auto
from typing import Final

from trunkline.v1.lease_pb2 import AcquireResponse, KeepAliveResponse

from trunkline_client.errors import TrunklineError, refusal

# After a renewal that failed the next one comes soon: within a thirtieth of the life, and these.
_PAUSE_MIN_SECONDS: Final = 0.1
_PAUSE_MAX_SECONDS: Final = 1.0


class LeaseState(Enum):
    """Where the reservation stands, seen from here."""

    NOT_ACQUIRED = auto()
    HELD = auto()
    # A session that shows it is being opened.
    OPENING = auto()
    USED = auto()
    RELEASED = auto()
    # The gateway says so, or could not be asked in time.
    LOST = auto()


class LeaseMove(Enum):
    """What changes the state."""

    ACQUIRE = auto()
    BEGIN_OPEN = auto()
    FAIL_OPEN = auto()
    FINISH_OPEN = auto()
    RELEASE = auto()
    LOSE = auto()


_S, _M = LeaseState, LeaseMove

# An empty cell changes nothing. While a session is being opened the token may count as used already,
# so that neither its loss nor a release means anything before that has ended.
TABLE: Final[Mapping[tuple[LeaseState, LeaseMove], LeaseState]] = {
    (_S.NOT_ACQUIRED, _M.ACQUIRE): _S.HELD,
    (_S.HELD, _M.BEGIN_OPEN): _S.OPENING,
    (_S.HELD, _M.RELEASE): _S.RELEASED,
    (_S.HELD, _M.LOSE): _S.LOST,
    (_S.OPENING, _M.FAIL_OPEN): _S.HELD,
    (_S.OPENING, _M.FINISH_OPEN): _S.USED,
}

_REFUSED: Final[Mapping[LeaseState, tuple[str, str]]] = {
    _S.NOT_ACQUIRED: ("NOT_OPEN", "the reservation is not made yet: enter `async with` or `with` first"),
    _S.HELD: ("ALREADY_OPEN", "the reservation is made already"),
    _S.OPENING: ("LEASE_ENDED", "another session is being opened with this reservation"),
    _S.USED: ("LEASE_ENDED", "a session has used this reservation"),
    _S.RELEASED: ("LEASE_ENDED", "this reservation was given back"),
    _S.LOST: ("LEASE_ENDED", "this reservation has ended"),
}


class LeaseCore:
    """The machine, and the times at which it must be renewed."""

    def __init__(self) -> None:
        """Begin before the reservation is made."""
        self.state = LeaseState.NOT_ACQUIRED
        self.failure: TrunklineError | None = None
        # The thread that renews and the one that opens may move it at the same moment.
        self._moving = threading.Lock()
        self._acquired: AcquireResponse | None = None
        self._ttl_seconds = 0.0
        self._renew_at = 0.0
        self._expires_at = 0.0

    @property
    def acquired(self) -> AcquireResponse:
        """What the gateway answered. Raises NOT_OPEN before."""
        if self._acquired is None:
            raise self._refusal()
        return self._acquired

    @property
    def alive(self) -> bool:
        """Whether it has to be renewed."""
        return self.state in {LeaseState.HELD, LeaseState.OPENING}

    def check_new(self) -> None:
        """Raise ALREADY_OPEN or LEASE_ENDED for a second use of the block."""
        if self.state is not LeaseState.NOT_ACQUIRED:
            raise self._refusal()

    def acquire(self, response: AcquireResponse, asked_at: float) -> None:
        """Note that it is made: it lives from the end of the wait on."""
        self._acquired = response
        self._live(asked_at + response.waited_ms / 1000, response.ttl_seconds)
        self._move(LeaseMove.ACQUIRE)

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Surround the opening of the session that uses it. Raises NOT_OPEN, or what ended it.

        One that was not opened leaves it held: whether it lives on, the next renewal tells.
        """
        if not self._move(LeaseMove.BEGIN_OPEN):
            raise self.failure or self._refusal()
        try:
            yield
        except BaseException:
            self._move(LeaseMove.FAIL_OPEN)
            raise
        self._move(LeaseMove.FINISH_OPEN)

    def release(self) -> bool:
        """Note that it is given back; return whether there is something to give back."""
        return self._move(LeaseMove.RELEASE)

    # Renewals.

    def due_seconds(self, now: float) -> float:
        """How long to wait before the next renewal."""
        return max(0.0, self._renew_at - now)

    def patience_seconds(self, now: float) -> float:
        """How long to wait for the answer to a renewal that is sent now."""
        return max(_PAUSE_MIN_SECONDS, min(self._ttl_seconds / 3, self._expires_at - now))

    def renewed(self, response: KeepAliveResponse, sent_at: float) -> None:
        """Note the answer to a renewal that was sent at `sent_at`: 0 seconds = it has ended."""
        if response.ttl_seconds > 0:
            self._live(sent_at, response.ttl_seconds)
            return
        # Where a session is being opened it may be over because it is used; this pause is for that.
        self._renew_at = sent_at + _PAUSE_MAX_SECONDS
        self._lose(refusal("LEASE_ENDED", "the gateway says that this reservation has ended"))

    def renewal_failed(self, failure: TrunklineError, now: float) -> None:
        """Note that the gateway could not be asked; that ends it when its life is over, or for good reason."""
        pause_seconds = min(_PAUSE_MAX_SECONDS, max(_PAUSE_MIN_SECONDS, self._ttl_seconds / 30))
        self._renew_at = now + max(pause_seconds, failure.retry_after_seconds or 0.0)
        if not failure.retryable or now >= self._expires_at:
            self._lose(failure)

    def _live(self, since: float, ttl_seconds: int) -> None:
        self._ttl_seconds = float(ttl_seconds)
        self._renew_at = since + ttl_seconds / 3
        self._expires_at = since + ttl_seconds

    def _lose(self, failure: TrunklineError) -> None:
        if self._move(LeaseMove.LOSE):
            self.failure = failure

    def _move(self, move: LeaseMove) -> bool:
        with self._moving:
            following = TABLE.get((self.state, move))
            if following is None:
                return False
            self.state = following
            return True

    def _refusal(self) -> TrunklineError:
        return refusal(*_REFUSED[self.state])
