"""Channels of their own for streams that go on: dials several gateways in threads, performs what the race decides."""

import functools
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

import grpc
from trunkline.v1.session_pb2 import ConverseRequest

from trunkline_client._dialling import Link, Race
from trunkline_client._resume import Attempt
from trunkline_client._sync_call import ConverseCall
from trunkline_client.errors import refusal

_LINKS: Final = {
    grpc.ChannelConnectivity.READY: Link.READY,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE: Link.FAILED,
    grpc.ChannelConnectivity.SHUTDOWN: Link.FAILED,
}
# gRPC's thread looks at a channel five times a second until it is told to stop. Closed under it, the channel
# makes it fail, now and then, with a traceback; so it has ample time to stop.
_LOOKS_LAST_SECONDS: Final = 1.0


class OwnChannel:
    """One channel that connects, and then may bear a stream. A thread of gRPC's tells how it connects."""

    def __init__(self, channel: grpc.Channel, tell: Callable[[Link], None]) -> None:
        """Take over a channel, and begin to connect."""
        self.channel = channel
        self._tell = tell
        self._looked_at_until = math.inf
        channel.subscribe(self._hear, try_to_connect=True)

    def _hear(self, state: grpc.ChannelConnectivity) -> None:
        if state in _LINKS:
            self._tell(_LINKS[state])

    def settle(self) -> None:
        """Tell no more of how it connects. A second time does nothing."""
        if math.isinf(self._looked_at_until):
            self.channel.unsubscribe(self._hear)
            self._looked_at_until = time.monotonic() + _LOOKS_LAST_SECONDS

    def close(self) -> None:
        """Close the channel, at once or as soon as nobody looks at it. A second time does nothing."""
        self.settle()
        left_seconds = self._looked_at_until - time.monotonic()
        if left_seconds <= 0:
            self.channel.close()
            return
        closing = threading.Timer(left_seconds, self.channel.close)
        closing.name, closing.daemon = "trunkline closes", True
        closing.start()


class Dialler:
    """What a client's sessions dial with."""

    def __init__(
        self,
        address: str,
        connect: Callable[[str, float], grpc.Channel],
        start: Callable[[Iterator[ConverseRequest], grpc.Channel | None], ConverseCall],
    ) -> None:
        """Prepare. `start` begins a stream on a channel, or where all calls go.

        `connect` makes a channel to an address; that has so many seconds to connect.
        """
        self.start = start
        self._address = address
        self._connect = connect
        self._taken = weakref.WeakSet[OwnChannel]()
        self._taking = threading.Lock()

    def close(self) -> None:
        """Close every one that was taken."""
        with self._taking:
            taken = tuple(self._taken)
        for own in taken:
            own.close()

    def dial(self, attempt: Attempt, changed: threading.Condition, over: threading.Event) -> tuple[OwnChannel, bool]:
        """Return the one that is taken, for its taker to close, and whether it leads to the owner.

        Raises CONNECTION_LOST if nobody listens, TIMED_OUT if nobody answers in time, CANCELLED as soon
        as `changed` tells that it is `over`. Every other one is closed.
        """
        race = Race(attempt, self._address, time.monotonic())
        dials: dict[int, OwnChannel] = {}
        try:
            number = self._raced(race, dials, changed, over)
            taken = dials.pop(number)
        finally:
            for own in dials.values():
                own.close()
        taken.settle()
        with self._taking:
            self._taken.add(taken)
        return taken, race.is_owner(number)

    def _raced(
        self, race: Race, dials: dict[int, OwnChannel], changed: threading.Condition, over: threading.Event
    ) -> int:
        """Dial until one is taken; return its number."""
        news = deque[tuple[int, Link]]()

        def tell(number: int, link: Link) -> None:
            with changed:
                news.append((number, link))
                changed.notify_all()

        while True:
            now = time.monotonic()
            for number, address in race.due(now):
                try:
                    channel = self._connect(address, race.connect_seconds)
                    dials[number] = OwnChannel(channel, functools.partial(tell, number))
                except (ValueError, OSError):
                    # The address means nothing, or is not to be reached like this.
                    race.note(number, Link.FAILED)
            taken = race.taken(now)
            if taken is not None:
                return taken
            race.check(now)
            with changed:
                changed.wait_for(lambda: news or over.is_set(), race.due_at() - now)
                if over.is_set():
                    raise refusal("CANCELLED", "this side cancelled the call")
                while news:
                    race.note(*news.popleft())
