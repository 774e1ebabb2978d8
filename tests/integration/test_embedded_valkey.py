"""The embedded server lives exactly as long as the process that started it."""

import asyncio
import os
import signal
import stat
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.core.errors import StoreError
from gateway.store import embedded
from gateway.store.embedded import EmbeddedOptions, EmbeddedValkey

TETHER = Path(embedded.__file__).with_name("tether.py")
ROOT = TETHER.parents[2]

# A gateway in small: starts the server, says where it is, and does what it is told.
PARENT = """
import asyncio, signal, sys, threading
from pathlib import Path
from gateway.store.embedded import EmbeddedOptions, EmbeddedValkey

async def ping(server):
    reader, writer = await asyncio.open_unix_connection(server.url.removeprefix("unix://"))
    writer.write(b"PING\\r\\n")
    print((await reader.readline()).decode().strip(), flush=True)
    writer.close()

async def main():
    async with EmbeddedValkey(EmbeddedOptions(folder=Path(sys.argv[2]))) as server:
        print(server.pid, flush=True)
        {work}

if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""
WAIT_FOR_EVER = "await asyncio.Event().wait()"
# Threads come and go, as in any gateway; none of them may take the server along.
WORK_FOR_TWO_SECONDS = """
        ends_at = asyncio.get_running_loop().time() + 2
        while asyncio.get_running_loop().time() < ends_at:
            thread = threading.Thread(target=sum, args=(range(100_000),))
            thread.start()
            thread.join()
            await asyncio.to_thread(sum, range(100_000))
        await ping(server)
"""
PING_AFTER_CTRL_C = """
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stopped.set)
        print("ready", flush=True)
        await stopped.wait()
        # Longer than a server takes that heard the signal.
        await asyncio.sleep(0.3)
        await ping(server)
"""


class Parent:
    """A process that has an embedded server."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(10):
            return (await self.process.stdout.readline()).decode().strip()


@asynccontextmanager
async def parent(loop: str, folder: Path, work: str) -> AsyncIterator[Parent]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", textwrap.dedent(PARENT).format(work=work), loop, str(folder)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        yield Parent(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
def short() -> Iterator[Path]:
    """Give a folder whose name leaves room for a socket's; pytest's own can be too long."""
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as folder:
        yield Path(folder)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def is_gone(pid: int) -> bool:
    """Whether no such process runs; one that only waits to be reaped counts as gone."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state in "ZX"


async def gone(pid: int) -> None:
    async with asyncio.timeout(5):
        while not is_gone(pid):  # noqa: ASYNC110 - a stranger's death has no event
            await asyncio.sleep(0.01)


on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
both_loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


async def test_a_long_temporary_folder_is_not_used(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = short / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    async with EmbeddedValkey() as server:
        assert server.url.startswith("unix:///tmp/trunkline-valkey-")


async def test_it_answers_on_a_private_socket_and_on_nothing_else(short: Path) -> None:
    async with EmbeddedValkey(EmbeddedOptions(folder=short)) as server:
        async with Redis.from_url(server.url) as raw:
            assert (await raw.config_get("port"))["port"] == "0"
            assert (await raw.config_get("save"))["save"] == ""
            assert (await raw.config_get("appendonly"))["appendonly"] == "no"
            assert (await raw.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
            await raw.set("key", "value")
        (name,) = names_in(short)
        assert stat.S_IMODE((short / name).lstat().st_mode) == 0o700
        assert names_in(short / name) == {"s", "log", "lock"}


@on_linux
async def test_its_environment_is_empty(short: Path) -> None:
    async with EmbeddedValkey(EmbeddedOptions(folder=short)) as server:
        assert environment_of(server.pid) == b""


async def test_nothing_is_left_after_stop(short: Path) -> None:
    server = EmbeddedValkey(EmbeddedOptions(folder=short))
    await server.start()
    pid = server.pid
    await server.stop()
    # Not even a zombie.
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert names_in(short) == set()
    await server.stop()


async def test_a_frozen_server_is_stopped_too(short: Path) -> None:
    server = EmbeddedValkey(EmbeddedOptions(folder=short))
    await server.start()
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    await server.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert names_in(short) == set()


async def test_two_servers_stand_beside_each_other(short: Path) -> None:
    options = EmbeddedOptions(folder=short)
    async with EmbeddedValkey(options) as one, EmbeddedValkey(options) as other:
        assert one.url != other.url
        async with Redis.from_url(one.url) as first, Redis.from_url(other.url) as second:
            await first.set("key", "value")
            assert await second.get("key") is None
        await one.stop()
        assert other.running
        async with Redis.from_url(other.url) as second:
            assert await second.ping()


async def test_it_starts_again_at_the_same_address_after_it_died(short: Path) -> None:
    async with EmbeddedValkey(EmbeddedOptions(folder=short)) as server:
        url, pid = server.url, server.pid
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(5):
            await server.ended()
        await server.start()
        assert server.url == url
        assert server.pid != pid


async def test_a_server_that_cannot_start_says_why_and_leaves_nothing(short: Path) -> None:
    server = EmbeddedValkey(EmbeddedOptions(folder=short, memory_max_bytes=-1))
    with pytest.raises(StoreError, match=r"ended at once; it said: (?s:.*)maxmemory"):
        await server.start()
    assert names_in(short) == set()


async def test_a_server_that_is_not_ready_in_time_is_put_away(short: Path) -> None:
    server = EmbeddedValkey(EmbeddedOptions(folder=short, ready_seconds=0))
    with pytest.raises(StoreError, match="did not answer within 0 s"):
        await server.start()
    assert not server.running
    assert names_in(short) == set()


async def test_a_path_too_long_for_a_socket_is_named(short: Path) -> None:
    deep = short / ("x" * 100)
    deep.mkdir()
    with pytest.raises(StoreError, match="socket is too long"):
        await EmbeddedValkey(EmbeddedOptions(folder=deep)).start()
    assert names_in(deep) == set()


@on_linux
@both_loops
async def test_it_dies_with_a_killed_parent_and_the_next_start_sweeps(short: Path, loop: str) -> None:
    async with parent(loop, short, WAIT_FOR_EVER) as gateway:
        pid = int(await gateway.line())
        assert not is_gone(pid)
        gateway.process.kill()
        await gateway.process.wait()
        await gone(pid)
    assert len(names_in(short)) == 1
    async with EmbeddedValkey(EmbeddedOptions(folder=short)):
        assert len(names_in(short)) == 1
    assert names_in(short) == set()


@on_linux
async def test_it_outlives_every_thread_of_its_parent_but_the_loop_s(short: Path) -> None:
    async def lives(loop: str) -> None:
        async with parent(loop, short, WORK_FOR_TWO_SECONDS) as gateway:
            pid = int(await gateway.line())
            assert await gateway.line() == "+PONG"
            assert await gateway.process.wait() == 0
            assert is_gone(pid)

    await asyncio.gather(lives("asyncio"), lives("uvloop"))
    assert names_in(short) == set()


@both_loops
async def test_ctrl_c_leaves_it_to_the_drain(short: Path, loop: str) -> None:
    async with parent(loop, short, PING_AFTER_CTRL_C) as gateway:
        await gateway.line()
        assert await gateway.line() == "ready"
        # What a terminal does: the signal goes to the whole group.
        os.killpg(gateway.process.pid, signal.SIGINT)
        assert await gateway.line() == "+PONG"
        async with asyncio.timeout(5):
            assert await gateway.process.wait() == 0
    assert names_in(short) == set()


async def test_a_tether_whose_parent_is_gone_already_starts_nothing(short: Path) -> None:
    started = short / "started"
    tether = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(TETHER), "1", "/usr/bin/touch", str(started))
    )
    async with asyncio.timeout(5):
        assert await tether.wait() == 75
    assert not started.exists()


@on_linux
async def test_where_the_kernel_does_not_help_the_tether_watches(short: Path) -> None:
    elsewhere = f"""
import os, runpy, subprocess, sys
code = "import sys, runpy; sys.platform = 'darwin'; sys.argv = sys.argv[1:]; " \
    "runpy.run_path(sys.argv[0], run_name='__main__')"
subprocess.run([sys.executable, "-I", "-S", "-c", code, {str(TETHER)!r}, str(os.getpid()),
                "/bin/sh", "-c", "echo $$; exec /bin/sleep 60"])
"""
    process = await asyncio.create_subprocess_exec(*(sys.executable, "-c", elsewhere), stdout=asyncio.subprocess.PIPE)
    watched = Parent(process)
    pid = int(await watched.line())
    process.kill()
    await process.wait()
    await gone(pid)


async def test_a_watching_tether_passes_the_end_on(short: Path) -> None:
    code = (
        "import sys, runpy; sys.platform = 'darwin'; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    tether = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", code, str(TETHER), str(os.getpid())),
        *("/bin/sh", "-c", "echo $$; exec /bin/sleep 60"),
        stdout=asyncio.subprocess.PIPE,
    )
    pid = int(await Parent(tether).line())
    tether.terminate()
    async with asyncio.timeout(5):
        await tether.wait()
    assert is_gone(pid)
