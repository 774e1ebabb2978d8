"""One connection to a Redis server, for one task. The only file that touches redis-py.

No foreign exception leaves it: what ends the connection becomes `LinkError`, what the server
refuses becomes a `Refused` in the answer's place. After anything but a complete set of answers,
also after a cancellation, the connection is dropped: no later command can read an earlier one's
answer.
"""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import (
    AskError,
    AuthorizationError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from gateway.store.address import Place
from gateway.store.options import RedisOptions

Command = tuple[str | bytes | int, ...]
# What a server may answer: bytes, numbers, nothing, or lists of them; or `Refused`.
Reply = Any


class LinkError(Exception):
    """The connection is gone, or the server as a whole cannot serve; the text says why."""


class Refusal(Enum):
    """What an error answer is about."""

    UNKNOWN_SCRIPT = auto()
    # Not this command alone: the server takes none of its kind now.
    UNUSABLE = auto()
    COMMAND = auto()
    # Ask another server of the Cluster: from now on, or this once; or the same one a little later.
    MOVED = auto()
    ASK = auto()
    LATER = auto()


@dataclass(frozen=True, slots=True)
class Refused:
    """An error answer; it stands where the answer would."""

    refusal: Refusal
    text: str
    # Where else to ask. An empty host is the one that was asked.
    place: Place | None = None
    # Of an unusable server: whether the others of a Cluster may serve all the same.
    is_local: bool = False


_UNUSABLE: Final = (AuthorizationError, ClusterDownError, NoPermissionError)
_UNUSABLE_ALONE: Final = (MasterDownError, OutOfMemoryError, ReadOnlyError)
# Codes that redis-py has no class for.
_UNUSABLE_ALONE_CODES: Final = ("BUSY ", "MISCONF ", "NOREPLICAS ")


class Link(Protocol):
    """The way to Redis, for one task: one call at a time."""

    @property
    def is_ailing(self) -> bool:
        """Whether it serves, but not for every key."""

    async def open(self) -> None:
        """Connect and authenticate, in place of any earlier connection. Raises `LinkError`."""

    async def exchange(self, commands: Sequence[Command], ends_at: float) -> list[Reply]:
        """Send `commands`; return their answers in order, by the loop time `ends_at`.

        Raises `LinkError`; then it is not known which of them were carried out.
        """

    async def close(self) -> None:
        """Drop what is open; does not wait for the other side."""


class _Abrupt(AbstractConnection):
    """Ends without a farewell: over TLS that would wait for a server that may be frozen."""

    async def disconnect(self, *_: Any, **__: Any) -> None:
        writer = self._writer
        await super().disconnect(nowait=True)
        if writer is not None:
            writer.transport.abort()


class _Tcp(_Abrupt, Connection):
    pass


class _Tls(_Abrupt, SSLConnection):
    pass


class _Unix(_Abrupt, UnixDomainSocketConnection):
    pass


class ServerLink:
    """`Link` to one server, over one connection."""

    is_ailing = False

    def __init__(self, options: RedisOptions, place: Place | None = None, *, database: int = 0) -> None:
        """Connect later, in `open`: to the server that the URL names, or to another `place`."""
        self._options = options
        self._place = place
        self._database = database
        self._connection: AbstractConnection | None = None

    async def open(self) -> None:
        """Connect and authenticate, in place of any earlier connection. Raises `LinkError`."""
        await self.close()
        self._connection = connection = self._made()
        seconds = self._options.connect_seconds
        opened = False
        try:
            async with asyncio.timeout(seconds):
                await connection.connect()  # type: ignore[no-untyped-call]
            opened = True
        except TimeoutError:
            raise LinkError(f"no connection within {seconds} s") from None
        except (RedisError, OSError) as error:
            raise LinkError(f"no connection: {error}") from None
        finally:
            if not opened:
                await self.close()

    async def exchange(self, commands: Sequence[Command], ends_at: float) -> list[Reply]:
        """Send `commands` as one piece; return their answers in order, by the loop time `ends_at`.

        Raises `LinkError`; then it is not known which of them were carried out.
        """
        if self._connection is None:
            raise LinkError("not connected")
        connection, complete = self._connection, False
        try:
            async with asyncio.timeout_at(ends_at):
                await connection.send_packed_command(connection.pack_commands(commands))
                replies = [await _reply(connection) for _ in commands]
            complete = True
        except TimeoutError:
            raise LinkError("no answer in time") from None
        except (RedisError, OSError) as error:
            raise LinkError(f"connection lost: {error}") from None
        finally:
            if not complete:
                await self.close()
        return replies

    async def close(self) -> None:
        """Drop the connection, if there is one; does not wait for the other side."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect()

    def _made(self) -> AbstractConnection:
        options, address = self._options, self._options.address
        chosen: dict[str, Any] = {"db": self._database or address.database}
        if address.path:
            chosen |= {"path": address.path, "connection_class": _Unix}
        else:
            host, port = self._place or address.places[0]
            chosen |= {"host": host, "port": port, "connection_class": _Tls if address.tls else _Tcp}
        username, password = _credentials(options)
        chosen |= {"username": username, "password": password}
        make = chosen.pop("connection_class")
        # Our own deadlines are the ones that count. RESP2: the shapes of answers do not vary by server.
        connection: AbstractConnection = make(
            **{name: value for name, value in chosen.items() if value is not None},
            socket_timeout=None,
            socket_connect_timeout=options.connect_seconds,
            protocol=2,
            driver_info=None,
        )
        if isinstance(connection, SSLConnection):
            # Its own would trust the system's authorities beside the one that is named, and read all of them at each
            # connect: 45 ms in which the loop stands still.
            connection.ssl_context.context = _trust(options.tls_ca_file)
        return connection


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    """Return what trusts one authority, or the system's; a file that has changed is read anew."""
    try:
        stamp = (0, 0) if ca_file is None else ((was := ca_file.stat()).st_ino, was.st_mtime_ns)
        return _context(ca_file, stamp)
    except OSError as error:
        raise LinkError(f"{ca_file or 'the list of authorities'} cannot be read: {error.strerror}") from None


@lru_cache(maxsize=4)
def _context(ca_file: Path | None, stamp: tuple[int, int]) -> ssl.SSLContext:
    del stamp  # part of the key: another file of that name is another authority
    return ssl.create_default_context(cafile=ca_file)


def _credentials(options: RedisOptions) -> tuple[str | None, str | None]:
    """Return user and password; a file is read anew for each connection, so that it may change."""
    username, password = options.username or options.address.username, options.password or options.address.password
    if options.password_file is not None:
        try:
            password = options.password_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise LinkError(f"{options.password_file} cannot be read") from None
    return username, password


async def _reply(connection: AbstractConnection) -> Reply:
    try:
        return await connection.read_response()
    except AskError as error:  # MOVED is one
        refusal = Refusal.MOVED if isinstance(error, MovedError) else Refusal.ASK
        return Refused(refusal, str(error), (error.host, error.port))
    except ResponseError as error:
        return _refused(error)


def _refused(error: ResponseError) -> Refused:
    text = str(error)
    if isinstance(error, NoScriptError):
        return Refused(Refusal.UNKNOWN_SCRIPT, text)
    if isinstance(error, TryAgainError):
        return Refused(Refusal.LATER, text)
    if isinstance(error, _UNUSABLE_ALONE) or text.startswith(_UNUSABLE_ALONE_CODES):
        return Refused(Refusal.UNUSABLE, text, is_local=True)
    return Refused(Refusal.UNUSABLE if isinstance(error, _UNUSABLE) else Refusal.COMMAND, text)
