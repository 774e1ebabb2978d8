"""Follows the configuration's file and the files of keys and tokens while the gateway runs.

All or nothing: what cannot be used as a whole changes nothing, and the gateway says so.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, Final, Generic, TypeVar

import structlog

from gateway.core.errors import StoreError
from gateway.settings import Settings, SettingsError, needs_restart

# How often the files are looked at. A secret that Kubernetes mounts is swapped by a symlink: the inode changes.
POLL_SECONDS: Final = 2.0
# A file that has just changed is read when it has been the same for so long: it may be half written.
SETTLE_SECONDS: Final = 0.25
# How long the file system may take to tell.
FILES_SECONDS: Final = 5.0
_log = structlog.get_logger(__name__)
T = TypeVar("T")
R = TypeVar("R")
# Of each file: inode, time of change, size; None = it is not there.
Stamps = dict[Path, tuple[int, int, int] | None]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the settings come from. `read` raises `SettingsError`."""

    file: Path | None
    read: Callable[[], Settings]


class Reload(Generic[T]):
    """Reads again what has changed, and hands it over when all of it can be used."""

    def __init__(self, source: Source, settings: Settings, prepare: Callable[[Settings], T]) -> None:
        """Begin with `settings`, as they just came from `source`.

        `prepare` reads the files that settings name, in a thread of its own; raises `SettingsError` or `StoreError`.
        """
        self._source = source
        self._settings = self._read_last = settings
        self._prepare = prepare
        self._asked = asyncio.Event()
        self._seen = _stamps(self._files())
        self._under_way: Future[Any] | None = None
        # Why the last change was refused; empty = it was not.
        self.refused = ""

    def ask(self) -> None:
        """Look now, whether or not a file seems to have changed."""
        self._asked.set()

    async def run(self, apply: Callable[[Settings, T], Awaitable[None]], noticed: Callable[[], None]) -> None:
        """Look again and again, until cancelled. `apply` puts a change in force; what it raises came before that.

        `noticed` is for what follows its files by itself: it is told of each change, used or not, in a thread apart.
        """
        while True:
            asked = await self._woken()
            try:
                if await self._has_changed() or asked:
                    await self._follow(apply, noticed)
            except TimeoutError:
                self._seen = {}  # whatever it is, it is followed when they answer again
                self._refuse(f"the files do not answer within {FILES_SECONDS:.0f} s")

    async def _woken(self) -> bool:
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._asked.wait()
        except TimeoutError:
            return False
        self._asked.clear()
        return True

    async def _has_changed(self) -> bool:
        """Whether a file is another one than before, once it stays what it is."""
        stamps = await self._apart(lambda: _stamps(self._files()))
        if stamps == {file: self._seen.get(file) for file in stamps}:
            return False
        while True:
            await asyncio.sleep(SETTLE_SECONDS)
            later = await self._apart(lambda: _stamps(self._files()))
            if later == stamps:
                # Taken before the files are read: a change in between is seen next time.
                self._seen = stamps
                return True
            stamps = later

    async def _apart(self, work: Callable[[], R]) -> R:
        """Do what may hang, as a network's files do, where it holds up neither the loop nor the end of the process.

        Raises `TimeoutError`, and at once while an earlier one still hangs.
        """
        if self._under_way is not None and not self._under_way.done():
            raise TimeoutError
        outcome = self._under_way = Future[R]()
        outcome.set_running_or_notify_cancel()  # from now on only the thread ends it
        Thread(target=_carried_out, args=(work, outcome), name="files", daemon=True).start()
        async with asyncio.timeout(FILES_SECONDS):
            return await asyncio.wrap_future(outcome)

    async def _follow(self, apply: Callable[[Settings, T], Awaitable[None]], noticed: Callable[[], None]) -> None:
        try:
            await self._apart(noticed)
            settings = await self._apart(self._source.read)
            if fixed := needs_restart(self._settings, settings):
                raise SettingsError(f"{', '.join(fixed)}: a change needs a restart")  # noqa: TRY301 told as the others
            self._read_last = settings
            await self._look_at_new_files()
            prepared = await self._apart(lambda: self._prepare(settings))
            await apply(settings, prepared)
        except (SettingsError, StoreError) as error:
            self._refuse(str(error))
        except TimeoutError:
            raise
        except Exception as error:  # noqa: BLE001 the bulkhead: whatever it is, the next change is followed again
            self._refuse(f"a fault of ours: {type(error).__name__}")
            _log.error("reload_failed", error=type(error).__name__, exc_info=error)
        else:
            self._settings, self.refused = settings, ""
            _log.info("reloaded")

    def _refuse(self, why: str) -> None:
        self.refused = why
        _log.error("reload_refused", error=why)

    async def _look_at_new_files(self) -> None:
        """Know those that are named for the first time, before they are read: what changes from now on is seen."""
        files = self._files()
        stamps = await self._apart(lambda: _stamps(files))
        self._seen = {file: self._seen.get(file, stamps[file]) for file in files}

    def _files(self) -> list[Path]:
        """All that the settings in force name, and those that were read last, be they refused."""
        named = [file for settings in (self._settings, self._read_last) for file in _named(settings)]
        return [*([self._source.file] if self._source.file else []), *dict.fromkeys(named)]


def _carried_out(work: Callable[[], R], outcome: "Future[R]") -> None:
    try:
        outcome.set_result(work())
    except Exception as error:  # noqa: BLE001 handed to whoever waits
        outcome.set_exception(error)


def _named(settings: Settings) -> Iterable[Path]:
    yield from (account.key_file for account in settings.accounts.values() if account.key_file is not None)
    yield from (caller.token_sha256_file for caller in settings.callers)
    yield from (key.file for key in settings.store.sealing_keys)
    tls = settings.grpc.tls
    yield from (file for file in (tls.cert_file, tls.key_file, tls.client_ca_file) if file is not None)


def _stamps(files: Iterable[Path]) -> Stamps:
    return {file: _stamp(file) for file in files}


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        stat = file.stat()
    except (OSError, ValueError):
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
