"""Two versions of the product in one test: the tree of an earlier commit beside this one, and clients of either."""

import asyncio
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from gateway.rpc.records import VERSION
from tests.support import tools
from tests.support.processes import ROOT, environment

# What two versions have to agree about.
FORMATS: Final = (
    "proto",
    "gateway/store",
    "gateway/rpc/records.py",
    "gateway/core/record.py",
    "gateway/runtime/resume_tokens.py",
    "clients/python",
)
# What is imported, and the folders under a tree in which it is found.
PACKAGES: Final = ("gateway", "trunkline", "trunkline_client")
_ROOTS: Final = (".", "proto", "clients/python")
_TAKEN: Final = ("gateway", "proto", "clients/python")
_CHILD: Final = Path(__file__).with_name("versions_child.py")
ANSWER_SECONDS: Final = 30.0
END_SECONDS: Final = 10.0


def earlier_commit(checkout: Path = ROOT) -> str:
    """Return the newest commit whose formats are not those of this tree; where none is known, the one before this.

    What is not committed yet makes a tree of its own. A checkout without any history is skipped, and fails in CI.
    """
    is_changed = _git(checkout, "diff", "--name-only", "HEAD", "--", *FORMATS)
    last = _git(checkout, "log", "-1", "--first-parent", "--format=%H", "HEAD", "--", *FORMATS)
    names = ("HEAD",) if is_changed else (f"{last}^", "HEAD^")
    known = (_git(checkout, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}") for name in names)
    found = next(filter(None, known), "")
    if not found:
        tools._missing(f"the commit before this one is not in {checkout}; git fetch --deepen 100 gets it")
    return found


def _git(checkout: Path, *arguments: str) -> str:
    """Return what it says; nothing where it fails."""
    found = subprocess.run([tools.tool("git"), *arguments], cwd=checkout, capture_output=True, check=False, timeout=60)
    return found.stdout.decode().strip() if found.returncode == 0 else ""


@contextmanager
def earlier_tree() -> Iterator[Path]:
    """Give what that commit has of the gateway, the contract and the client."""
    archive = [tools.tool("git"), "archive", "--format=tar", earlier_commit(), *_TAKEN]
    made = subprocess.run(archive, cwd=ROOT, capture_output=True, check=True, timeout=60)
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as name:
        with tarfile.open(fileobj=io.BytesIO(made.stdout)) as files:
            files.extractall(name, filter="data")
        yield Path(name)


def later_tree() -> AbstractContextManager[Path]:
    """Give this tree as one that stores what no gateway of today can read."""
    version = "\nVERSION: Final = {}\n"
    return changed_tree("gateway/rpc/records.py", version.format(VERSION), version.format(VERSION + 1))


@contextmanager
def changed_tree(file: str, old: str, new: str) -> Iterator[Path]:
    """Give this tree with another text at one place of the gateway."""
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as name:
        tree = Path(name)
        shutil.copytree(ROOT / "gateway", tree / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
        for each in ("proto", "clients"):
            (tree / each).symlink_to(ROOT / each)
        text = (tree / file).read_text("utf-8")
        assert text.count(old) == 1, f"{file} has not {old!r}"
        (tree / file).write_text(text.replace(old, new), "utf-8")
        yield tree


def runs_from(tree: Path) -> dict[str, str]:
    """Return the environment in which Python finds what is in a tree before what is installed, or where it stands."""
    roots = os.pathsep.join(str((tree / each).resolve()) for each in _ROOTS)
    return environment(PYTHONPATH=roots, PYTHONSAFEPATH="1")


class Talker:
    """One session of a client in a process of its own; `told` is what it said last."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._words, self._tells = process.stdin, process.stdout
        self.told: dict[str, Any] = {}

    async def hears(self) -> dict[str, Any]:
        """Wait for what it tells next."""
        async with asyncio.timeout(ANSWER_SECONDS):
            line = await self._tells.readline()
        assert line, f"the client has ended; it had said {self.told}"
        self.told = json.loads(line)
        return self.told

    async def turn(self, words: str) -> dict[str, Any]:
        """Let it say something, and be answered."""
        self._words.write(f"{words}\n".encode())
        return await self.hears()


@asynccontextmanager
async def talker(tree: Path, address: str) -> AsyncIterator[Talker]:
    """Begin a session of a tree's client, which then tells so; it says goodbye at the end, and ends well."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(_CHILD), address),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=runs_from(tree),
    )
    try:
        running = Talker(process)
        yield running
        running._words.close()
        async with asyncio.timeout(END_SECONDS):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
