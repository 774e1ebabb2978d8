"""Channels of their own for streams that go on: dials several gateways on asyncio, performs what the race decides."""

import asyncio
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from grpc import ChannelConnectivity, aio

from trunkline_client._aio_call import AsyncCall
from trunkline_client._dialling import Link, Race
from trunkline_client._resume import Attempt
from trunkline_client.errors import TrunklineError, refusal

_LINKS: Final = {
    ChannelConnectivity.READY: Link.READY,
    ChannelConnectivity.TRANSIENT_FAILURE: Link.FAILED,
    ChannelConnectivity.SHUTDOWN: Link.FAILED,
}
# A channel that is closed tells so within the loop's next turns.
_CLOSED_WITHIN_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Dial:
    channel: aio.Channel
    watching: asyncio.Task[Link]


class AsyncDialler:
    """What a client's sessions dial with."""

    def __init__(
        self,
        address: str,
        connect: Callable[[str, float], aio.Channel],
        start: Callable[[aio.Channel | None], AsyncCall],
    ) -> None:
        """Prepare. `start` begins a stream on a channel, or where all calls go.

        `connect` makes a channel to an address; that has so many seconds to connect.
        """
        self.start = start
        self._address = address
        self._connect = connect
        self._taken = weakref.WeakSet[aio.Channel]()

    async def close(self) -> None:
        """Close every channel that was taken."""
        for channel in tuple(self._taken):
            await channel.close()

    async def dial(self, attempt: Attempt) -> tuple[aio.Channel, bool]:
        """Return the channel that is taken, for its taker to close, and whether it leads to the owner.

        Raises CONNECTION_LOST if nobody listens, TIMED_OUT if nobody answers in time. Every other
        channel is closed, when it is cancelled too.
        """
        race = Race(attempt, self._address, time.monotonic())
        dials: dict[int, _Dial] = {}
        try:
            number = await self._raced(race, dials)
            await _close(dial for each, dial in dials.items() if each != number)
        except BaseException:
            await _close(dials.values())
            raise
        taken = dials[number].channel
        self._taken.add(taken)
        return taken, race.is_owner(number)

    async def started(self, channel: aio.Channel) -> AsyncCall:
        """Begin a stream that takes over a channel; close that if it cannot begin."""
        try:
            return self.start(channel)
        except Exception as error:
            await channel.close()
            if isinstance(error, TrunklineError):
                raise
            # The function that gives the token may fail for a while.
            raise refusal("CONNECTION_LOST", f"no call could be made: {type(error).__name__}") from error

    async def _raced(self, race: Race, dials: dict[int, _Dial]) -> int:
        """Dial until one is taken; return its number."""
        watched: dict[asyncio.Task[Link], int] = {}
        while True:
            now = time.monotonic()
            for number, address in race.due(now):
                dial = self._begun(address, race.connect_seconds)
                if dial is None:
                    race.note(number, Link.FAILED)
                else:
                    dials[number], watched[dial.watching] = dial, number
            taken = race.taken(now)
            if taken is not None:
                return taken
            race.check(now)
            done, _ = await asyncio.wait(watched, timeout=race.due_at() - now, return_when=asyncio.FIRST_COMPLETED)
            for watching in done:
                race.note(watched.pop(watching), watching.result())

    def _begun(self, address: str, seconds: float) -> _Dial | None:
        """Connect; None = the address means nothing, or is not to be reached like this."""
        try:
            channel = self._connect(address, seconds)
        except (ValueError, OSError):
            return None
        return _Dial(channel, asyncio.create_task(_outcome(channel), name=f"trunkline dials {address}"))


async def _outcome(channel: aio.Channel) -> Link:
    """Connect, and return how that ends, at the latest when the channel is closed."""
    try:
        while (state := channel.get_state(try_to_connect=True)) not in _LINKS:
            # Not to be cancelled: gRPC looks at what it waits for when the state changes.
            await channel.wait_for_state_change(state)
    except aio.UsageError:
        return Link.FAILED
    return _LINKS[state]


async def _close(dials: Iterable[_Dial]) -> None:
    watching = set[asyncio.Task[Link]]()
    for dial in dials:
        # Without a grace it asks nobody and returns at once.
        await dial.channel.close()
        watching.add(dial.watching)
    if watching:
        await asyncio.wait(watching, timeout=_CLOSED_WITHIN_SECONDS)
