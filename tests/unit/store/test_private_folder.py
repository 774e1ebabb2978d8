"""A folder that somebody holds is never swept; one that nobody holds is."""

import os
import stat
from pathlib import Path

from gateway.store.private_folder import LOCK, PREFIX, PrivateFolder, sweep


def abandoned(parent: Path) -> Path:
    """Make what a killed process leaves: the folder and its lock, which nobody holds."""
    path = parent / f"{PREFIX}1-gone"
    path.mkdir()
    (path / LOCK).touch()
    (path / "s").touch()
    return path


def test_it_is_private_and_says_whose_it_is(tmp_path: Path) -> None:
    folder = PrivateFolder(tmp_path)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert folder.path.name.startswith(f"{PREFIX}{os.getpid()}-")
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_held_folder_is_never_swept(tmp_path: Path) -> None:
    folder = PrivateFolder(tmp_path)
    assert sweep(tmp_path) == []
    assert (folder.path / LOCK).exists()
    folder.remove()


def test_an_abandoned_folder_is_swept_though_its_pid_lives(tmp_path: Path) -> None:
    path = abandoned(tmp_path)
    assert sweep(tmp_path) == [path]
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_such_a_folder_stays(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    kept = abandoned(elsewhere)
    (tmp_path / f"{PREFIX}2-link").symlink_to(kept)
    (tmp_path / f"{PREFIX}3-file").touch()
    (tmp_path / f"{PREFIX}4-being-made").mkdir()
    assert sweep(tmp_path) == []
    assert (kept / LOCK).exists()
    assert len(list(tmp_path.iterdir())) == 4
