"""One socket: reads client events, performs scripts in time, writes what the dialogue sends, and dies at its hour.

Every event out passes `_put` and every event in passes `_take`: where faults are at work, they stand there.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Final

import msgspec
from aiohttp import ClientConnectionResetError, WSMsgType, web

from gateway.simulator.committed import CommittedTurns
from gateway.simulator.dialogue import Dialogue, parse_failure
from gateway.simulator.events import Code, Event, Script, error_event, new_id
from gateway.simulator.faults import Drawn, Strikes
from gateway.simulator.options import SimulatorOptions
from gateway.simulator.outbox import ABNORMAL, Outbox
from gateway.simulator.responses import Stop
from gateway.simulator.session import REALTIME, TRANSCRIPTION, Session
from gateway.simulator.wire import is_gone, linger_for_nothing

EXPIRED: Final = "Your session hit the maximum duration of 60 minutes."
GOING_AWAY: Final = 1001

# Shorter waits are slept through: a timer costs more than it gives.
_SLEEP_MIN_SECONDS: Final = 0.0005
_CLOSE_ANSWER_SECONDS: Final = 0.5
# Nothing reads a frozen socket, so its end is looked for.
_LOOK_SECONDS: Final = 0.25


class Connection:
    """One accepted socket and its session. `serve` runs it to its end; everything it starts ends with it."""

    def __init__(
        self,
        options: SimulatorOptions,
        model: str | None,
        safety_identifier: str | None,
        committed: CommittedTurns,
        drawn: Sequence[Drawn] = (),
    ) -> None:
        """`model` is None for a transcription session; `drawn` are the faults it has from the start."""
        self.id = new_id("conn")
        self._options = options
        self._safety_identifier = safety_identifier
        self._opened_at = time.monotonic()
        self._closed_at: float | None = None
        self._created = False
        self._ending = False
        self._events_in = 0
        self._transport: asyncio.Transport | None = None
        self._outbox = Outbox()
        self._tasks = set[asyncio.Task[None]]()
        self._group = asyncio.TaskGroup()
        self._drawn = drawn
        self._strikes: Strikes | None = None
        self._thawed: asyncio.Event | None = None
        lives = [each.fault.life_seconds for each in drawn if each.fault.life_seconds is not None]
        self._life_seconds = min(lives, default=options.expire_after_seconds)
        kind = TRANSCRIPTION if model is None else REALTIME
        session = Session(kind, model, int(time.time() + self._life_seconds))
        self._dialogue = Dialogue(options, session, self._put, self._perform, committed.add)

    @property
    def session_id(self) -> str:
        """The name of its session, as `session.created` tells it."""
        return self._dialogue.session.id

    def describe(self) -> dict[str, object]:
        """Return what `GET /_sim/connections` tells of it."""
        end = time.monotonic() if self._closed_at is None else self._closed_at
        state = "open" if self._created else "opening"
        return {
            "id": self.id,
            "session_id": self.session_id,
            "model": self._dialogue.session.model,
            "safety_identifier": self._safety_identifier,
            "age_seconds": round(end - self._opened_at, 3),
            "state": "closed" if self._closed_at is not None else state,
            "events_in": self._events_in,
            "events_out": self._outbox.events_put,
            "faults": [] if self._strikes is None else self._strikes.kinds,
            **self._dialogue.state,
        }

    # What a fault may do, and the server.

    @property
    def created(self) -> bool:
        """Whether `session.created` is due or behind it."""
        return self._created

    def put_frame(self, payload: bytes, *, text: bool) -> None:
        """Send a message as it is, behind what is queued and past all faults."""
        self._outbox.put_frame(payload, text=text)

    def close(self, code: int, reason: str) -> None:
        """Close the socket behind what is already on its way."""
        self._outbox.close(code, reason)
        if self._thawed is not None and code == ABNORMAL:  # nothing is on its way from a frozen one
            self._reset()

    def freeze(self) -> None:
        """Neither read nor write from now on; TCP stays."""
        if self._thawed is not None or self._ending or self._transport is None or self._transport.is_closing():
            return
        self._thawed = asyncio.Event()
        self._outbox.hold()
        self._transport.pause_reading()
        self._spawn(self._watch(self._transport))

    def thaw(self) -> None:
        """Go on where it froze."""
        if self._thawed is None or self._transport is None:
            return
        self._thawed.set()
        self._thawed = None
        self._outbox.release()
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something unless the socket ends before."""
        if not self._ending:  # or the group would wait for it
            self._spawn(self._wait(seconds, action))

    def strike(self, drawn: Sequence[Drawn]) -> None:
        """Set these faults instead of those it has. Only while it is served."""
        if self._strikes is not None:
            self._strikes.lift()
        self._strikes = Strikes(drawn, self, self._outbox.put) if drawn else None
        if self._strikes is not None:
            self._strikes.begin()

    def abort(self) -> None:
        """Cut the wire. For a peer that does not even read the close frame."""
        if self._thawed is not None:
            self._thawed.set()
        if self._transport is not None:
            self._transport.abort()

    def _reset(self) -> None:
        if self._transport is not None:
            linger_for_nothing(self._transport)
        self.abort()

    # Its life.

    async def serve(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        """Run until either side closes. `transport` carries the socket."""
        self._transport = transport
        try:
            async with self._group:
                self._spawn(self._deliver(socket))
                self._spawn(self._expire())
                if self._drawn:
                    self.strike(self._drawn)
                await asyncio.sleep(self._options.created_delay_ms / 1000)
                self._created = True
                self._dialogue.open()
                await self._read(socket)
                await self._hang_up(socket)
                self._ending = True
                for task in tuple(self._tasks):
                    task.cancel()
        finally:
            self._closed_at = time.monotonic()

    async def _read(self, socket: web.WebSocketResponse) -> None:
        async for message in socket:
            if message.type is WSMsgType.ERROR:
                return  # aiohttp has closed with 1002, 1007 or 1009
            if self._thawed is not None:
                await self._thawed.wait()
            # Behind our close frame everything is read and dropped: closing the wire over unread data resets it, and
            # the peer may lose what we sent last.
            if self._outbox.closing:
                continue
            self._take(message.data)
            await self._outbox.room()

    def _take(self, message: str | bytes) -> None:
        self._events_in += 1
        if self._strikes is not None:
            self._strikes.heard()
        try:
            sent = msgspec.json.decode(message)
        except msgspec.DecodeError:
            self._put(parse_failure())
        else:
            self._dialogue.take(sent)

    def _put(self, event: Event) -> None:
        if self._strikes is None:
            self._outbox.put(event)
        else:
            self._strikes.put(event)

    async def _hang_up(self, socket: web.WebSocketResponse) -> None:
        if self._outbox.closing and self._transport is not None:
            self._transport.close()  # or aiohttp sends a close frame of its own behind ours
            return
        try:
            async with asyncio.timeout(_CLOSE_ANSWER_SECONDS):
                await socket.close()
        except TimeoutError:
            self.abort()

    async def _deliver(self, socket: web.WebSocketResponse) -> None:
        """Cut the wire of a peer that reads nothing or does not answer our close frame; that ends `_read`."""
        with suppress(ClientConnectionResetError, ConnectionError, TimeoutError):
            closing = await self._outbox.deliver(socket)
            if closing.code == ABNORMAL:
                self._reset()
            await asyncio.sleep(_CLOSE_ANSWER_SECONDS)
        self.abort()

    async def _expire(self) -> None:
        await asyncio.sleep(self._life_seconds)
        self._put(error_event(Code.SESSION_EXPIRED, EXPIRED))
        self._outbox.close(GOING_AWAY, EXPIRED)

    async def _watch(self, transport: asyncio.Transport) -> None:
        while self._thawed is not None:
            if is_gone(transport):
                self.abort()
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _wait(self, seconds: float, action: Callable[[], None]) -> None:
        await asyncio.sleep(seconds)
        action()

    def _perform(self, script: Script) -> Stop:
        """Play a script on this connection's clock."""
        played = script if self._strikes is None else self._strikes.plays(script)
        task = self._spawn(self._play(played))

        def stop() -> None:
            task.cancel()

        return stop

    async def _play(self, script: Script) -> None:
        start = time.monotonic()
        for beat in script:
            wait = start + beat.after_ms / 1000 - time.monotonic()
            if wait > _SLEEP_MIN_SECONDS:
                await asyncio.sleep(wait)
            await self._outbox.room()
            for event in beat.events():
                self._put(event)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
