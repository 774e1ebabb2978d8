"""How a blocking `open` finds a gateway that stays, where the first one goes away."""

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from trunkline_client._resume import OPENINGS_MAX, Attempts
from trunkline_client._sync_dialling import Dialler, OwnChannel
from trunkline_client.errors import TrunklineError

_Opened = TypeVar("_Opened")


def open_somewhere(
    dialler: Dialler,
    open_on: Callable[[OwnChannel | None], _Opened],
    is_turned_away: Callable[[TrunklineError], bool],
    attempts_after: Callable[[TrunklineError], Attempts],
    changed: threading.Condition,
    over: threading.Event,
) -> _Opened:
    """Open where all calls go (None), or over connections of its own where that gateway goes away.

    A connection that stands leads to the same gateway until that is gone; a balancer leads a new one to another.
    Raises CANCELLED as soon as `changed` tells that it is `over`.
    """
    own, attempts = None, None
    for opening in range(1, OPENINGS_MAX + 1):
        try:
            return open_on(own)
        except TrunklineError as refused:
            with changed:
                if opening == OPENINGS_MAX or not is_turned_away(refused):
                    raise
            attempts = attempts or attempts_after(refused)
        own = _dialled(dialler, attempts, changed, over)
    raise AssertionError("the last opening returns or raises")


def _dialled(dialler: Dialler, attempts: Attempts, changed: threading.Condition, over: threading.Event) -> OwnChannel:
    """Return a connection of its own."""
    while True:
        attempt = attempts.next(time.monotonic(), random.random())  # noqa: S311 - chance, no secret
        over.wait(attempt.pause_seconds)
        try:
            return dialler.dial(attempt, changed, over)[0]
        except TrunklineError as failure:
            attempts.fail(failure)
