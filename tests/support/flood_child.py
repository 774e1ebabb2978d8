"""A hostile peer in a process of its own: it takes one attack a line on stdin, and tells a line of what came of it.

SIGUSR1 ends the attack that goes on.

It runs only where the processor has nothing else to do: whoever floods a real gateway brings a machine of its own.
"""

import asyncio
import base64
import contextlib
import json
import os
import resource
import signal
import ssl
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support import http2
from tests.support.http2 import Kind, Reader, Windows

# How often connections and messages that are due are looked for.
TICK_SECONDS: Final = 0.005
CATCH_UP_TICKS: Final = 2
# As many messages in one tick where there is no other bound.
TICK_MESSAGES: Final = 50
# What may wait in this process for a peer that does not read.
UNSENT_MAX_BYTES: Final = 1 << 18
_END_STREAM: Final = 1


@dataclass(frozen=True)
class Attack:
    """What to do. Bytes come in base64."""

    host: str
    port: int
    connections: int
    # How many of them are begun in a second.
    per_second: float
    # Until when to go on; earlier where every connection is closed.
    seconds: float
    greeting: bytes = b""
    # Whether settings and pings are acknowledged, as a peer does that wants to stay.
    answers: bool = False
    streams: int = 0
    token: str = ""
    metadata_bytes: int = 0
    # On each stream: its first message, and what then comes how often in a second; inf = as fast as it goes.
    first: bytes = b""
    message: bytes = b""
    messages_per_second: float = 0.0
    # Whether what comes is taken off the hands of the gateway.
    reads: bool = True
    # Whether a peer whose streams have all been ended goes away.
    hangs_up: bool = False

    @classmethod
    def of(cls, line: str) -> "Attack":
        given: dict[str, Any] = json.loads(line)
        for name in ("greeting", "first", "message"):
            given[name] = base64.b64decode(given.get(name, ""))
        return cls(**given)


@dataclass
class Told:
    """What came of it."""

    opened: int = 0
    failed: int = 0
    held_seconds: list[float] = field(default_factory=list)
    messages: int = 0
    streams: int = 0
    streams_ended: int = 0
    stream_held_max_s: float = 0.0
    resets: Counter[int] = field(default_factory=Counter)

    def line(self, left: int, began: float) -> str:
        held = sorted(self.held_seconds)
        return json.dumps(
            {
                "opened": self.opened,
                "failed": self.failed,
                "closed": len(held),
                "left": left,
                "held_min_s": round(held[0], 2) if held else None,
                "held_max_s": round(held[-1], 2) if held else None,
                "messages": self.messages,
                "streams": self.streams,
                "streams_ended": self.streams_ended,
                "stream_held_max_s": round(self.stream_held_max_s, 2),
                "resets": dict(self.resets),
                "seconds": round(time.monotonic() - began, 2),
            }
        )


class Peer(asyncio.Protocol):
    """One connection."""

    def __init__(self, attack: Attack, told: Told, live: "set[Peer]") -> None:
        self._attack = attack
        self._told = told
        self._live = live
        self._reader = Reader()
        self._windows = Windows()
        # Of each open stream: what is left of the message on its way, and how many have gone.
        self._rest: dict[int, bytes] = {}
        self._sent: dict[int, int] = {}
        self._begun_at: dict[int, float] = {}
        self._next_stream = 1
        self._transport: asyncio.Transport
        self._began = 0.0
        self._message = http2.grpc_message(attack.message) if attack.messages_per_second else b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._began = time.monotonic()
        self._live.add(self)
        self._told.opened += 1
        transport.write(self._attack.greeting)
        for _ in range(self._attack.streams):
            self._begin_stream()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self in self._live:
            self._live.discard(self)
            self._told.held_seconds.append(time.monotonic() - self._began)

    def leave(self) -> None:
        self._live.discard(self)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        for kind, flags, stream, payload in self._reader.frames(data):
            if self._attack.answers and (reply := http2.answer(kind, flags, payload)):
                self._transport.write(reply)
            match kind:
                case Kind.WINDOW_UPDATE:
                    self._windows.widen(stream, payload)
                case Kind.SETTINGS if not flags:
                    self._windows.settle(payload)
                case Kind.DATA if payload and self._attack.reads:
                    more = len(payload).to_bytes(4, "big")
                    for each in (0, stream):
                        self._transport.write(http2.frame(Kind.WINDOW_UPDATE, more, each))
                case Kind.RST_STREAM:
                    self._told.resets[int.from_bytes(payload, "big")] += 1
                    self._stream_ended(stream)
                case Kind.HEADERS if flags & _END_STREAM:
                    self._stream_ended(stream)

    def _begin_stream(self) -> None:
        attack, stream = self._attack, self._next_stream
        self._next_stream += 2
        self._told.streams += 1
        more = {"authorization": attack.token and f"Bearer {attack.token}", "x-more": "m" * attack.metadata_bytes}
        self._transport.write(http2.call(stream, [(name, value) for name, value in more.items() if value]))
        self._rest[stream], self._sent[stream], self._begun_at[stream] = b"", 0, time.monotonic()
        if attack.first:
            content = http2.grpc_message(attack.first)
            self._windows.spend(stream, len(content))
            self._transport.write(http2.frame(Kind.DATA, content, stream))

    def _stream_ended(self, stream: int) -> None:
        if self._rest.pop(stream, None) is None:
            return
        told = self._told
        told.streams_ended += 1
        told.stream_held_max_s = max(told.stream_held_max_s, time.monotonic() - self._begun_at[stream])
        if self._attack.hangs_up and not self._rest:
            self.leave()

    def send_due(self) -> None:
        """Send what is due on each stream, as far as the windows let it."""
        rate, frames = self._attack.messages_per_second, list[bytes]()
        if not rate or self._transport.get_write_buffer_size() > UNSENT_MAX_BYTES:
            return
        elapsed = time.monotonic() - self._began
        for stream in self._rest:
            due = TICK_MESSAGES if rate == float("inf") else int(rate * elapsed) - self._sent[stream]
            for _ in range(min(due, TICK_MESSAGES)):
                if not self._send_one(stream, frames):
                    break
        self._transport.write(b"".join(frames))

    def _send_one(self, stream: int, frames: list[bytes]) -> bool:
        """Add one message's frames; return whether the windows had room for all of it."""
        left = self._rest[stream] or self._message
        while left and (room := self._windows.room(stream)) > 0:
            piece, left = left[:room], left[room:]
            self._windows.spend(stream, len(piece))
            frames.append(http2.frame(Kind.DATA, piece, stream))
        self._rest[stream] = left
        if left:
            return False
        self._sent[stream] += 1
        self._told.messages += 1
        return True


async def carry_out(attack: Attack, enough: asyncio.Event) -> str:
    """Attack until its time is over or somebody has had enough; return what came of it, as a line."""
    loop, told, live = asyncio.get_running_loop(), Told(), set[Peer]()
    dialling = set[asyncio.Task[None]]()
    began = time.monotonic()

    async def connect() -> None:
        try:
            async with asyncio.timeout(attack.seconds):
                await loop.create_connection(lambda: Peer(attack, told, live), attack.host, attack.port)
        except (OSError, TimeoutError):
            told.failed += 1

    begun = 0
    while (elapsed := time.monotonic() - began) < attack.seconds and not enough.is_set():
        due = min(int(attack.per_second * elapsed) + 1, attack.connections)
        # Whoever had to wait for the processor does not make up for it at once.
        due = min(due, begun + 1 + int(attack.per_second * CATCH_UP_TICKS * TICK_SECONDS))
        for _ in range(begun, due):
            task = loop.create_task(connect())
            dialling.add(task)
            task.add_done_callback(dialling.discard)
        begun = max(begun, due)
        for peer in tuple(live):
            peer.send_due()
        if begun == attack.connections and not dialling and not live:
            break
        await asyncio.sleep(TICK_SECONDS)
    left = len(live)
    for task in tuple(dialling):
        task.cancel()
    for peer in tuple(live):
        peer.leave()
    await asyncio.sleep(0)
    return told.line(left, began)


def client_hello() -> bytes:
    """Return how a TLS client begins."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost").do_handshake()
    return out.read()


def _be_cheap() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)


async def main() -> None:
    enough = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, enough.set)
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        enough.clear()
        print(await carry_out(Attack.of(line), enough), flush=True)


if __name__ == "__main__":
    _be_cheap()
    import uvloop

    uvloop.run(main())
