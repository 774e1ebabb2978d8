"""Just enough HTTP/2 to misbehave with: frames written by hand, no library that would refuse to.

Header blocks are literal fields without indexing, so that they need no state.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CONVERSE: Final = "/trunkline.v1.SessionService/Converse"
HEAD_BYTES: Final = 9
# What RFC 9113 gives a connection and each of its streams until somebody says otherwise.
WINDOW_BYTES: Final = 65_535
# Without asking, no frame may be longer.
FRAME_MAX_BYTES: Final = 16_384
_END_HEADERS: Final = 4
_ACK: Final = 1
# `:method: POST` and `:scheme: http` of the static table.
_POST: Final = b"\x83\x86"
_SHORT: Final = 127


class Kind(IntEnum):
    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


def frame(kind: Kind, payload: bytes = b"", stream: int = 0, flags: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


SETTINGS: Final = frame(Kind.SETTINGS)
SETTINGS_ACK: Final = frame(Kind.SETTINGS, flags=_ACK)


def call(stream: int, more: Sequence[tuple[str, str]] = (), path: str = CONVERSE) -> bytes:
    """Return the frames that begin a call: HEADERS, and CONTINUATION where it does not fit."""
    fields = ((":path", path), (":authority", "localhost"), ("te", "trailers"), ("content-type", "application/grpc"))
    block = _POST + b"".join(_literal(name, value) for name, value in (*fields, *more))
    pieces = [block[at : at + FRAME_MAX_BYTES] for at in range(0, len(block), FRAME_MAX_BYTES)]
    kinds = [Kind.HEADERS, *[Kind.CONTINUATION] * (len(pieces) - 1)]
    last = len(pieces) - 1
    return b"".join(
        frame(kind, piece, stream, _END_HEADERS if number == last else 0)
        for number, (kind, piece) in enumerate(zip(kinds, pieces, strict=True))
    )


def grpc_message(content: bytes) -> bytes:
    """Return a message as gRPC puts it on a stream: not compressed, with its length before it."""
    return struct.pack(">BI", 0, len(content)) + content


def _literal(name: str, value: str) -> bytes:
    return b"\x00" + _text(name) + _text(value)


def _text(text: str) -> bytes:
    size = len(text)
    if size < _SHORT:
        return bytes((size,)) + text.encode("ascii")
    head, rest = bytearray((_SHORT,)), size - _SHORT
    while rest > _SHORT:
        head.append(rest & _SHORT | 0x80)
        rest >>= 7
    return bytes((*head, rest)) + text.encode("ascii")


@dataclass
class Windows:
    """What the other side still takes, on the connection and on each stream."""

    connection: int = WINDOW_BYTES
    initial: int = WINDOW_BYTES
    streams: dict[int, int] = field(default_factory=dict)

    def room(self, stream: int) -> int:
        return min(self.connection, self.streams.get(stream, self.initial), FRAME_MAX_BYTES)

    def spend(self, stream: int, size: int) -> None:
        self.connection -= size
        self.streams[stream] = self.streams.get(stream, self.initial) - size

    def widen(self, stream: int, payload: bytes) -> None:
        more = int.from_bytes(payload[:4], "big")
        if stream:
            self.streams[stream] = self.streams.get(stream, self.initial) + more
        else:
            self.connection += more

    def settle(self, payload: bytes) -> None:
        """Take over the initial window of a SETTINGS frame."""
        for number, value in struct.iter_unpack(">HI", payload):
            if number == 4:
                self.streams = {stream: room + value - self.initial for stream, room in self.streams.items()}
                self.initial = value


@dataclass
class Reader:
    """Cuts what comes into frames."""

    left: bytes = b""

    def frames(self, data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield kind, flags, stream and payload of each frame that is whole."""
        self.left += data
        while len(self.left) >= HEAD_BYTES:
            end = HEAD_BYTES + int.from_bytes(self.left[:3], "big")
            if len(self.left) < end:
                return
            head, payload, self.left = self.left[:HEAD_BYTES], self.left[HEAD_BYTES:end], self.left[end:]
            yield head[3], head[4], int.from_bytes(head[5:], "big") & 0x7FFF_FFFF, payload


def answer(kind: int, flags: int, payload: bytes) -> bytes:
    """Return what a peer owes for a frame: an acknowledgement of settings, or of a ping."""
    if flags & _ACK:
        return b""
    if kind == Kind.SETTINGS:
        return SETTINGS_ACK
    return frame(Kind.PING, payload, flags=_ACK) if kind == Kind.PING else b""
