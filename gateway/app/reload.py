"""Follows the configuration's file and the files of keys and tokens while the gateway runs.

All or nothing: what cannot be used as a whole changes nothing, and the gateway says so.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from gateway.core.errors import StoreError
from gateway.settings import Settings, SettingsError, needs_restart

# How often the files are looked at. A secret that Kubernetes mounts is swapped by a symlink: the inode changes.
POLL_SECONDS: Final = 2.0
# How long the file system may take to tell.
STAT_SECONDS: Final = 5.0
_log = structlog.get_logger(__name__)
# Of each file: inode, time of change, size; None = it is not there.
Stamps = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the settings come from. `read` raises `SettingsError`."""

    file: Path | None
    read: Callable[[], Settings]


class Reload:
    """Reads again what has changed, and hands it over when all of it can be used."""

    def __init__(self, source: Source, settings: Settings, apply: Callable[[Settings], Awaitable[None]]) -> None:
        """Begin with `settings`, as they came from `source`.

        `apply` raises `SettingsError` or `StoreError` before it changes anything.
        """
        self._source = source
        self._settings = settings
        self._apply = apply
        self._asked = asyncio.Event()
        self._seen: Stamps = ()
        # Why the last change was refused; empty = it was not.
        self.refused = ""

    def ask(self) -> None:
        """Look now, whether or not a file seems to have changed."""
        self._asked.set()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        self._seen = await self._stamps()
        while True:
            asked = await self._woken()
            stamps = await self._stamps()
            if asked or stamps != self._seen:
                # Taken before the files are read: a change in between is seen next time.
                self._seen = stamps
                await self._follow()

    async def _woken(self) -> bool:
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._asked.wait()
        except TimeoutError:
            return False
        self._asked.clear()
        return True

    async def _follow(self) -> None:
        try:
            self._settings = await self._changed()
        except (SettingsError, StoreError) as error:
            self.refused = str(error)
            _log.error("reload_refused", error=self.refused)
            return
        self.refused = ""
        _log.info("reloaded")

    async def _changed(self) -> Settings:
        """Put what the files say now in force."""
        settings = await asyncio.to_thread(self._source.read)
        if fixed := needs_restart(self._settings, settings):
            raise SettingsError(f"{', '.join(fixed)}: a change needs a restart")
        await self._apply(settings)
        return settings

    async def _stamps(self) -> Stamps:
        files = list(_files(self._settings, self._source.file))
        try:
            async with asyncio.timeout(STAT_SECONDS):
                return await asyncio.to_thread(lambda: tuple(map(_stamp, files)))
        except TimeoutError:
            _log.warning("files_not_looked_at", seconds=STAT_SECONDS)
            return self._seen


def _files(settings: Settings, file: Path | None) -> Iterable[Path]:
    if file is not None:
        yield file
    yield from (account.key_file for account in settings.accounts.values() if account.key_file is not None)
    yield from (caller.token_sha256_file for caller in settings.callers)
    yield from (key.file for key in settings.store.sealing_keys)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
