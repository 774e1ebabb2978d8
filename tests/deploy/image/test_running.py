"""The image as a container: a plain user on a read-only root that serves calls, and stops without losing one."""

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from tests.deploy.image.conftest import Built
from tests.deploy.image.container import Container, container
from tests.deploy.image.talks import finished, heard_out, talking
from tests.support.calls import Caller
from tests.support.ports import free_port
from tests.support.processes import UNLIMITED, all_gone, command_line, descendants, valkeys, write_yaml
from tests.support.simulated import simulated_provider
from tests.support.stack import channel_to
from tests.support.waiting import eventually, eventually_sync

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]
USER: Final = "65532"
CALLS: Final = 8
DRAIN_SECONDS: Final = 30


@dataclass
class Served:
    """A container with a gateway that serves, and the way to it."""

    container: Container
    address: str
    pid: int

    def status(self, name: str) -> str:
        """Return a field of the first process's status."""
        lines = Path(f"/proc/{self.pid}/status").read_text("ascii").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))


@contextmanager
def served(image: Built, name: str, speed: float = 5.0) -> Iterator[Served]:
    """Run the image as it is, with a simulator of this machine's as its provider."""
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as made:
        folder = Path(made)
        mounted = folder / "mounted"
        mounted.mkdir()
        with simulated_provider(folder, speed=speed) as provider:
            address = f"127.0.0.1:{free_port()}"
            write_yaml(mounted, sections(address, provider.url)).chmod(0o644)
            arguments = ["serve", "--config", "/etc/trunkline/trunkline.yaml", "--insecure-dev"]
            with container(image.containers, name, image.tag, arguments, mounted) as running:
                running.says('"serving"')
                yield Served(running, address, running.pid)


def sections(address: str, upstream: str) -> dict[str, Any]:
    return {
        "grpc": {"address": address},
        "ops": {"address": f"127.0.0.1:{free_port()}"},
        "accounts": UNLIMITED,
        "targets": {"openai": {"url": upstream}},
        "limits": {"drain_seconds": DRAIN_SECONDS},
        "pools": {"default": {"floor": CALLS, "ceiling": 4 * CALLS, "reserve": 0, "dials_max": 8}},
    }


async def test_a_container_serves_a_call_as_a_plain_user_on_a_read_only_root(image: Built) -> None:
    with served(image, "plain") as running:
        assert running.status("Uid").split() == running.status("Gid").split() == [USER] * 4
        assert running.status("NSpid").split()[-1] == "1"
        for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
            assert int(running.status(name), 16) == 0, name
        assert (running.status("NoNewPrivs"), running.status("Seccomp")) == ("1", "2")
        assert "/" not in writable(running.pid)
        assert "/tmp" in writable(running.pid)  # noqa: S108 the one place
        async with channel_to(running.address) as channel, talking(channel, 1) as (caller,):
            assert await finished(caller) == (True, grpc.StatusCode.OK)
            assert len(caller.audio()) > 24_000
        pools = image.containers.podman("exec", "plain", "trunkline", "pools", "--json", "--address", running.address)
        assert json.loads(pools)["pools"][0]["name"] == "default"


def writable(pid: int) -> set[str]:
    """Return where the process's mounts could be written."""
    lines = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text("utf-8").splitlines()]
    return {fields[4] for fields in lines if "rw" in fields[5].split(",")}


async def test_sigterm_under_live_calls_loses_none_and_ends_with_0(image: Built) -> None:
    with served(image, "drained", speed=0.5) as running:
        below = descendants(running.pid)
        async with channel_to(running.address) as channel, talking(channel, CALLS) as callers:
            stopping = asyncio.create_task(
                asyncio.to_thread(image.containers.podman, "stop", "--time", str(DRAIN_SECONDS), "drained")
            )
            await eventually(lambda: '"draining"' in running.container.output, "it drains")
            refused = await Caller(channel).refused()
            assert refused.reason == "DRAINING"
            assert not any(map(heard_out, callers)), "the answers were over before the signal"
            ends = await asyncio.gather(*map(finished, callers))
        assert ends == [(True, grpc.StatusCode.OK)] * CALLS
        await stopping
        assert running.container.wait() == 0
        assert '"stopped"' in running.container.output
        all_gone(below | {running.pid})


async def test_a_second_signal_forces(image: Built) -> None:
    with served(image, "forced") as running:
        async with channel_to(running.address) as channel, talking(channel, 1):
            os.kill(running.pid, signal.SIGTERM)
            await eventually(lambda: '"draining"' in running.container.output, "it drains")
            assert running.container.code is None
            os.kill(running.pid, signal.SIGTERM)
            assert await asyncio.to_thread(running.container.wait, 10) == 1
        assert '"forced_stop"' in running.container.output


def test_process_1_reaps_its_server_and_starts_another(image: Built) -> None:
    with served(image, "reaping") as running:
        (before,) = valkeys(running.pid)
        assert command_line(before).startswith("/opt/trunkline/lib/")
        os.kill(before, signal.SIGKILL)
        eventually_sync(lambda: [each for each in valkeys(running.pid) if each != before], "another server runs")
        eventually_sync(lambda: not Path(f"/proc/{before}").exists(), "the dead one is reaped")
        assert running.container.code is None


def test_an_unusable_configuration_is_told_in_one_sentence(image: Built, tmp_path: Path) -> None:
    (tmp_path / "trunkline.yaml").write_text("pools: {default: {flor: 3}}\n", "utf-8")
    tmp_path.chmod(0o755)
    with container(image.containers, "refused", image.tag, [], tmp_path) as running:
        assert running.wait() != 0
        assert "pools.default.flor: no such key" in running.output
        assert "Traceback" not in running.output


def test_without_a_configuration_it_says_where_it_looked(image: Built, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with container(image.containers, "bare", image.tag, [], tmp_path) as running:
        assert running.wait() != 0
        assert "/etc/trunkline/trunkline.yaml cannot be read: No such file or directory" in running.output
        assert "Traceback" not in running.output
