"""The only way in which tests name a command that is not Python.

`.ci/run` installs the packages of this table; a test compares. Where a command is missing, a test is
skipped with the line that says how to get it; in CI, where nothing may be missing, it fails.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

import pytest

# Command → the Debian package that has it.
PACKAGES: Final[Mapping[str, str]] = {
    "buildah": "buildah",
    "catatonit": "catatonit",
    "debootstrap": "debootstrap",
    "git": "git",
    "make": "make",
    "mount": "mount",
    "podman": "podman",
    "promtool": "prometheus",
    "redis-sentinel": "redis-sentinel",
    "redis-server": "redis-server",
    "runc": "runc",
    "tmux": "tmux",
    "umount": "mount",
    "unshare": "util-linux",
}


def where(name: str) -> str | None:
    """Return the path of a command of the table, None where it is missing."""
    assert name in PACKAGES
    return shutil.which(name)


def tool(name: str) -> str:
    """Return the path of a command of the table; skip or fail where it is missing."""
    found = where(name)
    if found is None:
        _missing(f"{name} is not here; on Debian: apt-get install {PACKAGES[name]}")
    return found


def venv_script(name: str) -> str:
    """Return the path of a command that came with this Python environment, such as `buf`."""
    found = Path(sys.executable).with_name(name)
    if not found.exists():
        _missing(f"{name} is not in {found.parent}; make test installs it")
    return str(found)


def _missing(sentence: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(sentence)
    pytest.skip(sentence)
