"""How a blocking `open` finds a gateway that stays, where the first one goes away."""

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from trunkline_client._resume import OPENINGS_MAX, OpeningAttempts
from trunkline_client._session import SessionCore, State
from trunkline_client._sync_call import at_most
from trunkline_client._sync_dialling import Dialler, OwnChannel
from trunkline_client.errors import TrunklineError, refusal
from trunkline_client.options import ConnectionOptions

_Opened = TypeVar("_Opened")


class Opening:
    """One `open`, wherever it goes, until `changed` tells that it is `over`: cut, or given up with its time."""

    def __init__(
        self, dialler: Dialler, core: SessionCore, changed: threading.Condition, over: threading.Event
    ) -> None:
        """Prepare."""
        self._dialler = dialler
        self._core = core
        self._changed = changed
        self._over = over
        self._ended = refusal("CANCELLED", "this side cancelled the call")

    def run(
        self,
        open_on: Callable[[OwnChannel | None], _Opened],
        unask: Callable[[], None],
        seconds: float,
        options: ConnectionOptions,
    ) -> _Opened:
        """Open where all calls go (None), or over connections of its own where that gateway goes away.

        A connection that stands leads to the same gateway until that is gone; a balancer leads a new one to another.
        Raises TIMED_OUT, with the last cause, if none is found in time, and CANCELLED if it is cut. `unask` is
        called with the end of the time: it ends what has begun.
        """
        attempts = OpeningAttempts(seconds, options, time.monotonic())

        def give_up() -> None:
            if self._gives_up(attempts.too_late()):
                unask()

        try:
            with at_most(seconds, give_up):
                return self._somewhere(open_on, attempts)
        except Exception:
            if self._over.is_set():
                raise self._ended from None
            raise

    def _gives_up(self, failure: TrunklineError) -> bool:
        with self._changed:
            # Cut before, or open in the last moment.
            if self._over.is_set() or self._core.state is State.OPEN:
                return False
            self._ended = failure
            self._over.set()
            self._core.end(failure)
            self._changed.notify_all()
            return True

    def _somewhere(self, open_on: Callable[[OwnChannel | None], _Opened], attempts: OpeningAttempts) -> _Opened:
        own = None
        for opening in range(1, OPENINGS_MAX + 1):
            try:
                return open_on(own)
            except TrunklineError as refused:
                with self._changed:
                    # Told of its end before it is turned back, the core would forget that.
                    if opening == OPENINGS_MAX or self._over.is_set() or not self._core.opens_elsewhere(refused):
                        raise
                attempts.turn_away(refused)
            own = self._dialled(attempts)
        raise AssertionError("the last opening returns or raises")

    def _dialled(self, attempts: OpeningAttempts) -> OwnChannel:
        """Return a connection of its own."""
        while True:
            attempt = attempts.next(time.monotonic(), random.random())  # noqa: S311 - chance, no secret
            if self._over.wait(attempt.pause_seconds):
                raise self._ended
            try:
                own, _ = self._dialler.dial(attempt, self._changed, self._over)
            except TrunklineError as failure:
                if self._over.is_set():
                    raise
                attempts.fail(failure)
            else:
                if not self._over.is_set():
                    return own
                own.close()
                raise self._ended
