"""`trunkline top` on a real terminal, over two gateways with twenty running sessions."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.support.calls import Caller
from tests.support.fleet import Fleet, fleet
from tests.support.processes import ROOT, command_line, descendants, environment, on_linux
from tests.support.stack import channel_to, pool
from tests.support.tools import tool
from tests.support.waiting import eventually

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300), on_linux]
SESSIONS = 20
# Clears a screen, sets a title, turns the direction of reading.
EVIL = "\x1b[2J\x1b]0;owned\x07\u202e"
POOLS = {"default": pool(floor=2, ceiling=32), "dictation": pool(floor=1, ceiling=8)}


class Terminal:
    """A terminal of a size, with a shell in it."""

    def __init__(self, folder: Path, width: int, height: int) -> None:
        self.folder = folder
        self._tmux = [tool("tmux"), "-f", "/dev/null", "-L", f"trunkline-{uuid.uuid4().hex[:8]}"]
        self._env = {**environment(TMUX_TMPDIR=str(folder)), "TERM": "xterm-256color", "PS1": "$ ", "LC_ALL": "C.UTF-8"}
        # A terminal within one, and the size of another: in a worker of xdist, readline leaves one in the environment.
        for name in ("TMUX", "LINES", "COLUMNS"):
            self._env.pop(name, None)
        self._ask("new-session", "-d", "-x", str(width), "-y", str(height), "-c", str(ROOT), "sh")

    def _ask(self, *words: str) -> str:
        done = subprocess.run(
            [*self._tmux, *words], env=self._env, capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout

    def type(self, *keys: str) -> None:
        self._ask("send-keys", *keys)

    def shown(self) -> str:
        return self._ask("capture-pane", "-p")

    def tells(self, what: str) -> str:
        return self._ask("display-message", "-p", f"#{{{what}}}").strip()

    def resize(self, width: int, height: int) -> None:
        self._ask("resize-window", "-x", str(width), "-y", str(height))

    def close(self) -> None:
        self._ask("kill-server")


@contextmanager
def terminal(width: int = 150, height: int = 40) -> Iterator[Terminal]:
    # The path of a socket is short.
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as folder:
        made = Terminal(Path(folder), width, height)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def two() -> Iterator[Fleet]:
    with fleet(2, templates={"default": {}, "dictation": {}}, pools=POOLS) as running:
        yield running


@asynccontextmanager
async def sessions(two: Fleet) -> AsyncIterator[list[str]]:
    """Hold twenty sessions, some of which have been answered; yield their ids."""
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(channel_to(address)) for address in two.addresses]
        callers = [Caller(channels[number % 2], deadline_seconds=240) for number in range(SESSIONS)]
        ids = []
        for number, caller in enumerate(callers):
            template = "dictation" if number % 5 == 0 else "default"
            correlation = EVIL if number == 3 else f"call-{number:04}"
            ids.append((await caller.open(template=template, correlation_id=correlation)).session_id)
            stack.callback(caller.cancel)
            if number % 4 == 1:
                await caller.answer_please()
                await caller.until("response_done")
        yield ids


def begin(screen: Terminal, two: Fleet) -> None:
    # The state of the terminal is noted before and after.
    screen.type(f"stty -g > {screen.folder}/before; printf '%s\\n' marker", "Enter")
    screen.type(f"{sys.executable} -m gateway top --address {','.join(two.addresses)}; echo left $?", "Enter")


async def watching(two: Fleet, screen: Terminal) -> None:
    begin(screen, two)
    await eventually(lambda: f"{SESSIONS} sessions" in screen.shown(), "the sessions are shown", seconds=30)


async def test_twenty_sessions_and_their_pools_are_on_one_page(two: Fleet) -> None:
    async with sessions(two) as ids:
        with terminal() as screen:
            await watching(two, screen)
            await eventually(lambda: all(each in screen.shown() for each in ids), "all of them")
            page = screen.shown()
            lines = page.splitlines()
            assert len([line for line in lines if "dictation" in line and "/8" not in line]) == 2 + SESSIONS // 5
            for address in two.addresses:
                (line,) = [line for line in lines if address in line]
                assert line.split()[3:] == ["2", "10", "10/40", "answers"]
            assert page.count("call-") == SESSIONS - 1
            (hostile,) = [line for line in lines if ids[3] in line]
            assert hostile.rstrip().endswith("?[2J?]0;owned??")
            assert screen.tells("pane_title") != "owned"
            assert screen.tells("alternate_on") == "1"


async def test_it_follows_what_happens_and_the_size_of_the_terminal(two: Fleet) -> None:
    with terminal() as screen:
        async with sessions(two):
            await watching(two, screen)
            screen.type("s")
            await eventually(lambda: "s: by idle" in screen.shown(), "the order has changed")
            screen.type("p")
            await eventually(lambda: "p: by waiting" in screen.shown(), "of pools, too")
            screen.resize(80, 24)
            await eventually(lambda: "more" in screen.shown(), "it is cut")
            lines = screen.shown().splitlines()
            assert len(lines) <= 24
            assert max(map(cell_len, lines)) <= 80
            shown = [line for line in lines if " sess_" in line]
            assert lines[-1].split() == ["…", str(SESSIONS - len(shown)), "more"]
            assert len(shown) >= 8
        await eventually(lambda: " 0 sessions" in screen.shown(), "they have ended")


async def _press(screen: Terminal, how: str) -> None:
    if how != "SIGTERM":
        screen.type(how)
        return
    (ours,) = [each for each in descendants(int(screen.tells("pane_pid"))) if "gateway top" in command_line(each)]
    os.kill(ours, signal.SIGTERM)


@pytest.mark.parametrize("how", ["q", "C-c", "SIGTERM"])
async def test_leaving_it_leaves_a_clean_terminal(two: Fleet, how: str) -> None:
    async with sessions(two):
        with terminal() as screen:
            await watching(two, screen)
            assert screen.tells("cursor_flag") == "0"
            await _press(screen, how)
            await eventually(lambda: "left 0" in screen.shown(), "it has ended")
            page = screen.shown()
            assert "marker" in page
            assert "sess_" not in page
            assert (screen.tells("alternate_on"), screen.tells("cursor_flag")) == ("0", "1")
            screen.type(f"stty -g > {screen.folder}/after; echo written", "Enter")
            await eventually(lambda: "\nwritten" in screen.shown(), "the state of the terminal is written")
            before, after = ((screen.folder / name).read_text("ascii") for name in ("before", "after"))
            assert before == after != ""


async def test_a_gateway_that_dies_is_shown_as_it_was_with_since_when() -> None:
    with fleet(2, pools={"default": pool(floor=1, ceiling=4)}) as other, terminal() as screen:
        begin(screen, other)
        await eventually(lambda: screen.shown().count("answers") == 2, "both answer", seconds=30)
        dead = other.addresses[1]
        other.gateways[dead].send(signal.SIGKILL)
        await eventually(lambda: re.search(r"no answer since [2-9] s", screen.shown()), "it is missed")
        page = screen.shown()
        (line,) = [line for line in page.splitlines() if dead in line]
        assert "CONNECTION_LOST" in line
        assert "1 silent" in page
        assert page.count("answers") == 1
        await asyncio.to_thread(other.gateways[dead].wait)
