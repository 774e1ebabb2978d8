"""A process that begins with its imports done is, seen from outside, what `python -m …` would be."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.processes import Process, descendants, is_gone, on_linux

pytestmark = on_linux

BOTH = pytest.mark.parametrize("forks", [True, False])


def simulator(folder: Path, port: Any, *, forks: bool) -> Process:
    return Process(["-m", "tests.support.simulated_child", json.dumps({"port": port})], folder / "log", forks=forks)


@BOTH
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGKILL, -9)])
def test_how_it_ended_is_told(tmp_path: Path, number: signal.Signals, code: int, *, forks: bool) -> None:
    process = simulator(tmp_path, free_port(), forks=forks)
    process.says("listening")
    assert process.code is None
    process.send(number)
    assert process.wait() == process.code == code
    assert is_gone(process.pid)


@BOTH
def test_a_refusal_is_told_with_its_words_and_its_code(tmp_path: Path, *, forks: bool) -> None:
    process = Process(["-m", "gateway", "serve", "--config", "/nowhere.yaml"], tmp_path / "log", forks=forks)
    assert process.wait() == 2
    assert process.output == "trunkline: /nowhere.yaml cannot be read: No such file or directory\n"


@BOTH
def test_what_nobody_has_caught_is_shown_and_ends_it(tmp_path: Path, *, forks: bool) -> None:
    process = simulator(tmp_path, "no number", forks=forks)
    assert process.wait() == 1
    assert process.output.startswith("Traceback (most recent call last):\n")
    assert process.output.endswith("\n")
    assert "TypeError: " in process.output.splitlines()[-1]


def test_each_has_a_session_of_its_own_and_nothing_of_its_neighbours(tmp_path: Path) -> None:
    forked = [tmp_path / name for name in ("one", "other")]
    begun = tmp_path / "begun"
    for folder in (*forked, begun):
        folder.mkdir()
    processes = [simulator(folder, free_port(), forks=folder in forked) for folder in (*forked, begun)]
    try:
        for each in processes:
            each.says("listening")
            assert os.getsid(each.pid) == os.getpgid(each.pid) == each.pid
            assert descendants(each.pid) == set()
        one, other, interpreter = processes
        assert files(one.pid) == files(other.pid) == files(interpreter.pid)
        one.stop()
        assert not other.ended
    finally:
        for each in processes:
            each.stop()


def files(pid: int) -> list[str]:
    """Return what a process has open, without the numbers of sockets and pipes."""
    links = [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]
    return sorted("log" if each.endswith("/log") else re.sub(r"\d+", "", each) for each in links)
