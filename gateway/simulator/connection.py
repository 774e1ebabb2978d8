"""One socket: reads client events, performs scripts in time, writes what the dialogue sends, and dies at its hour.

Every event out passes `Outbox.put` and every event in passes `Dialogue.take`: faults belong between them and this file.
"""

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Final

import msgspec
from aiohttp import ClientConnectionResetError, WSMsgType, web

from gateway.simulator.dialogue import Dialogue, parse_failure
from gateway.simulator.events import Code, Script, error_event, new_id
from gateway.simulator.options import SimulatorOptions
from gateway.simulator.outbox import Outbox
from gateway.simulator.responses import Stop
from gateway.simulator.session import REALTIME, TRANSCRIPTION, Session

EXPIRED: Final = "Your session hit the maximum duration of 60 minutes."
GOING_AWAY: Final = 1001

# Shorter waits are slept through: a timer costs more than it gives.
_SLEEP_MIN_SECONDS: Final = 0.0005
_CLOSE_ANSWER_SECONDS: Final = 0.5


class Connection:
    """One accepted socket and its session. `serve` runs it to its end; everything it starts ends with it."""

    def __init__(self, options: SimulatorOptions, model: str | None, safety_identifier: str | None) -> None:
        """`model` is None for a transcription session."""
        self.id = new_id("conn")
        self._options = options
        self._safety_identifier = safety_identifier
        self._opened_at = time.monotonic()
        self._closed_at: float | None = None
        self._created = False
        self._events_in = 0
        self._transport: asyncio.Transport | None = None
        self._outbox = Outbox()
        self._tasks = set[asyncio.Task[None]]()
        self._group = asyncio.TaskGroup()
        kind = TRANSCRIPTION if model is None else REALTIME
        session = Session(kind, model, int(time.time() + options.expire_after_seconds))
        self._dialogue = Dialogue(options, session, self._outbox.put, self._perform)

    def describe(self) -> dict[str, object]:
        """Return what `GET /_sim/connections` tells of it."""
        end = time.monotonic() if self._closed_at is None else self._closed_at
        state = "open" if self._created else "opening"
        return {
            "id": self.id,
            "session_id": self._dialogue.session.id,
            "model": self._dialogue.session.model,
            "safety_identifier": self._safety_identifier,
            "age_seconds": round(end - self._opened_at, 3),
            "state": "closed" if self._closed_at is not None else state,
            "events_in": self._events_in,
            "events_out": self._outbox.events_put,
            **self._dialogue.state,
        }

    def close(self, code: int, reason: str) -> None:
        """Close the socket behind what is already on its way."""
        self._outbox.close(code, reason)

    def abort(self) -> None:
        """Cut the wire. For a peer that does not even read the close frame."""
        if self._transport is not None:
            self._transport.abort()

    async def serve(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        """Run until either side closes. `transport` carries the socket."""
        self._transport = transport
        try:
            async with self._group:
                self._spawn(self._deliver(socket))
                self._spawn(self._expire())
                await asyncio.sleep(self._options.created_delay_ms / 1000)
                self._dialogue.open()
                self._created = True
                await self._read(socket)
                await self._hang_up(socket)
                for task in tuple(self._tasks):
                    task.cancel()
        finally:
            self._closed_at = time.monotonic()

    async def _read(self, socket: web.WebSocketResponse) -> None:
        async for message in socket:
            if message.type is WSMsgType.ERROR:
                return  # aiohttp has closed with 1002, 1007 or 1009
            # Behind our close frame everything is read and dropped: closing the wire over unread data resets it, and
            # the peer may lose what we sent last.
            if self._outbox.closing:
                continue
            self._events_in += 1
            try:
                sent = msgspec.json.decode(message.data)
            except msgspec.DecodeError:
                self._outbox.put(parse_failure())
            else:
                self._dialogue.take(sent)
            await self._outbox.room()

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
            await self._outbox.deliver(socket)
            await asyncio.sleep(_CLOSE_ANSWER_SECONDS)
        self.abort()

    async def _expire(self) -> None:
        await asyncio.sleep(self._options.expire_after_seconds)
        self._outbox.put(error_event(Code.SESSION_EXPIRED, EXPIRED))
        self._outbox.close(GOING_AWAY, EXPIRED)

    def _perform(self, script: Script) -> Stop:
        """Play a script on this connection's clock."""
        task = self._spawn(self._play(script))

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
                self._outbox.put(event)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
