"""Files as kubelet mounts a Secret or a ConfigMap: all of them change in one moment.

    token → ..data/token        ..data → ..2026_11_22_15_04_05.123456789        ..2026_…/token

A new version is a new directory; `..data` is swapped by a rename, and what stands in the old one is removed.
"""

import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_DATA: Final = "..data"


class MountedSecret:
    """One volume."""

    def __init__(self, folder: Path, content: Mapping[str, str | bytes]) -> None:
        """Mount it in a folder that is not there yet."""
        folder.mkdir()
        self._folder = folder
        # What it holds.
        self.content: Mapping[str, str | bytes] = {}
        self.become(content)

    def path(self, name: str) -> str:
        """Return what a configuration names."""
        return str(self._folder / name)

    def put(self, **changed: str | bytes) -> None:
        """Give some entries another content; the others are written again as they are."""
        self.become({**self.content, **changed})

    def become(self, content: Mapping[str, str | bytes]) -> None:
        """Replace all of it."""
        data = self._folder / _DATA
        before = data.readlink() if data.is_symlink() else None
        stamp = datetime.now(UTC).strftime("..%Y_%m_%d_%H_%M_%S.")
        after = Path(tempfile.mkdtemp(prefix=stamp, dir=self._folder))
        after.chmod(0o755)
        for name, entry in content.items():
            file = after / name
            file.write_bytes(entry.encode() if isinstance(entry, str) else entry)
            file.chmod(0o644)
        swapped = self._folder / f"{_DATA}_tmp"
        swapped.symlink_to(after.name)
        swapped.rename(data)
        for name in content.keys() - self.content.keys():
            (self._folder / name).symlink_to(f"{_DATA}/{name}")
        for name in self.content.keys() - content.keys():
            (self._folder / name).unlink()
        if before is not None:
            shutil.rmtree(self._folder / before)
        self.content = dict(content)
