"""The TCP side of a socket: cut it hard, and look whether the peer has gone while nothing is read."""

import asyncio
import select
import socket
import struct
from typing import Final

# Linux alone tells of a peer that has closed behind unread data; elsewhere only a reset is seen.
_PEER_CLOSED: Final = getattr(select, "POLLRDHUP", 0)
_LINGER_FOR_NOTHING: Final = struct.pack("ii", 1, 0)


def linger_for_nothing(transport: asyncio.Transport) -> None:
    """Let the end of the connection be a TCP reset: no FIN."""
    if not transport.is_closing():
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_FOR_NOTHING)


def is_gone(transport: asyncio.Transport) -> bool:
    """Tell whether the peer has closed or reset the connection."""
    if transport.is_closing():
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), _PEER_CLOSED)
    return bool(poll.poll(0))
