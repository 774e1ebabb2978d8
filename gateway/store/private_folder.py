"""A folder for one process alone, that does not pile up when the process is killed.

Its owner holds a lock on a file inside for as long as it lives; the kernel lets go of it even after
`kill -9`. So a folder whose lock can be taken belongs to nobody, whatever process has its pid now.
"""

import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import IO, Final

PREFIX: Final = "trunkline-valkey-"
LOCK: Final = "lock"


class PrivateFolder:
    """A new folder, readable by its owner only (0700). The pid in its name is for people."""

    def __init__(self, parent: Path) -> None:
        """Create it in `parent`."""
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))
        unnamed = self.path / "lock.new"
        self._lock: IO[bytes] = unnamed.open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Named only when it is held: a sweep never finds a lock that is about to be taken.
        unnamed.rename(self.path / LOCK)

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def sweep(parent: Path) -> list[Path]:
    """Remove folders in `parent` that processes of this user left behind; return which."""
    return [path for path in sorted(parent.glob(f"{PREFIX}*")) if _is_left_behind(path)]


def _is_left_behind(path: Path) -> bool:
    try:
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return False
        with (path / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    except OSError:
        # Held, gone meanwhile, or no lock inside: not ours to remove.
        return False
    return True
