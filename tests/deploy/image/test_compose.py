"""The compose file for one's own machine: nothing leaves the machine, and its services fit together.

There is no compose here. Its commands are started as they stand, ours in containers of the image, Redis and Prometheus
as programs of this machine, since there is no registry. Ports are drawn, and the services' names are 127.0.0.1, since
there is no network of compose's.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import yaml

from tests.deploy.image.conftest import Built
from tests.deploy.image.container import Container, container
from tests.deploy.monitoring.server import Prometheus
from tests.support.calls import Caller
from tests.support.containers import DOCKERFILE
from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.reference_blocks import commands
from tests.support.stack import channel_to
from tests.support.tools import tool
from tests.support.waiting import eventually_sync

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(300)]
FILE: Final = DOCKERFILE.parent / "compose.yaml"
FOLDER: Final = DOCKERFILE.parent / "compose"
TOKEN: Final = "trunkline-local"
OURS: Final = ("gateway", "simulator")


def services() -> dict[str, dict[str, Any]]:
    """Return the services, merged as YAML says."""
    read: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text("utf-8"))["services"]
    return read


def test_nothing_is_reachable_from_another_machine() -> None:
    for name, service in services().items():
        assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", each) for each in service.get("ports", [])), name
        assert service.get("network_mode", "service:gateway") == "service:gateway", name


def test_every_service_is_held_as_tightly_as_it_can_be() -> None:
    for name, service in services().items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "cap_add", "pid", "ipc", "devices"} & service.keys(), name
    for name in OURS:
        assert services()[name]["read_only"] is True
        assert services()[name]["tmpfs"] == ["/tmp:size=16m,mode=1777"]  # noqa: S108 of the container


def test_every_image_is_ours_or_has_a_version() -> None:
    for name, service in services().items():
        if name in OURS:
            assert service["image"] == "trunkline:local"
            assert (FILE.parent / service["build"]["context"]).resolve() == ROOT
            assert (ROOT / service["build"]["dockerfile"]) == DOCKERFILE
        else:
            assert re.fullmatch(r"[a-z/]+:v?\d+(\.\d+)+", service["image"]), name


def test_every_mounted_path_exists_and_is_read_only() -> None:
    for name, service in services().items():
        for each in service.get("volumes", []):
            source, _, options = each.split(":")
            assert (FILE.parent / source).exists(), f"{name}: {source}"
            assert options == "ro", f"{name}: {source}"


def test_compose_gives_the_gateway_time_to_drain() -> None:
    drain = yaml.safe_load((FOLDER / "trunkline.yaml").read_text("utf-8")).get("limits", {}).get("drain_seconds", 45)
    assert int(services()["gateway"]["stop_grace_period"].removesuffix("s")) >= drain + 10


def test_the_page_says_how_to_join_the_network_of_a_gateway_that_was_started_again() -> None:
    sharing = [name for name, each in services().items() if each.get("network_mode") == "service:gateway"]
    assert services()["gateway"]["restart"] != "no"
    told = [each.text for each in commands("docs/operations/image.md")]
    assert f"docker compose -f {FILE.relative_to(ROOT)} restart {' '.join(sharing)}" in told


def test_the_dashboard_finds_its_data_source() -> None:
    (source,) = yaml.safe_load((FOLDER / "grafana/datasource.yaml").read_text("utf-8"))["datasources"]
    (provider,) = yaml.safe_load((FOLDER / "grafana/dashboards.yaml").read_text("utf-8"))["providers"]
    mounted = [each.split(":")[1] for each in services()["grafana"]["volumes"]]
    assert any(Path(each).parent == Path(provider["options"]["path"]) for each in mounted)
    assert re.match(r"http://prometheus:9090$", source["url"])
    assert source["type"] == "prometheus"


@contextmanager
def program(arguments: list[str], log: Path) -> Iterator[None]:
    """Run a program of this machine's."""
    with log.open("wb") as file:
        process = subprocess.Popen(arguments, cwd=log.parent, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def redis(folder: Path) -> Iterator[int]:
    port = free_port()
    _, *options = services()["redis"]["command"]
    given = [tool("redis-server"), *options, "--port", str(port), "--bind", "127.0.0.1"]
    with program(given, folder / "redis.log"):
        yield port


@contextmanager
def scraping(folder: Path, ops: str) -> Iterator[Prometheus]:
    """Run Prometheus with the files that compose mounts, side by side as compose mounts them."""
    for each in services()["prometheus"]["volumes"]:
        source, target, _ = each.split(":")
        text = (FILE.parent / source).read_text("utf-8")
        (folder / Path(target).name).write_text(text.replace("gateway:9464", ops), "utf-8")
    port = free_port()
    options = [each.replace("/etc/prometheus", str(folder)) for each in services()["prometheus"]["command"]]
    given = [str(Path(tool("promtool")).with_name("prometheus")), *options]
    given += [f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={folder / 'storage'}"]
    with program(given, folder / "prometheus.log"):
        asked = Prometheus(port)
        eventually_sync(asked.is_ready, "Prometheus is ready", 30)
        yield asked


@contextmanager
def gateway(image: Built, mounted: Path) -> Iterator[Container]:
    """Run the image's own command, which compose leaves as it is."""
    assert "command" not in services()["gateway"]
    with container(image.containers, "composed", image.tag, [], mounted) as running:
        running.says('"serving"')
        yield running


def on_this_machine(folder: Path, ports: dict[str, int]) -> Path:
    """Copy what compose mounts into the gateway; every address of it becomes one of these."""
    mounted = folder / "mounted"
    shutil.copytree(FOLDER, mounted)
    file = mounted / "trunkline.yaml"
    text = file.read_text("utf-8")
    for address, port in ports.items():
        assert address in text
        text = text.replace(address, f"127.0.0.1:{port}")
    file.write_text(text, "utf-8")
    return mounted


async def test_the_services_of_the_compose_file_fit_together(image: Built) -> None:
    names = ("0.0.0.0:50051", "0.0.0.0:9464", "redis:6379", "127.0.0.1:9180")
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as made, ExitStack() as stack:
        folder = Path(made)
        grpc_port, ops_port, simulator_port = free_port(), free_port(), free_port()
        redis_port = stack.enter_context(redis(folder))
        mounted = on_this_machine(
            folder, dict(zip(names, (grpc_port, ops_port, redis_port, simulator_port), strict=True))
        )
        command = [str(simulator_port) if each == "9180" else each for each in services()["simulator"]["command"]]
        provider = stack.enter_context(container(image.containers, "provider", image.tag, command, mounted))
        provider.says("listening")
        running = stack.enter_context(gateway(image, mounted))
        prometheus = stack.enter_context(scraping(folder, f"127.0.0.1:{ops_port}"))
        async with channel_to(f"127.0.0.1:{grpc_port}") as channel:
            assert (await Caller(channel, "another").refused()).code == grpc.StatusCode.UNAUTHENTICATED
            caller = Caller(channel, TOKEN)
            opened = await caller.open()
            await caller.say("Hello")
            await caller.answer_please()
            await caller.until("response_done")
            await caller.bye()
            await caller.rest()
            assert (await caller.status()).code == grpc.StatusCode.OK
        assert opened.owner_address == "127.0.0.1:50051"
        rules = [each["name"] for group in prometheus.ask("rules")["groups"] for each in group["rules"]]
        assert rules, "no rule was loaded"
        targets = "up{job='trunkline'} == 1 and on(instance) trunkline_sessions"
        eventually_sync(lambda: prometheus.ask("query", query=targets)["result"], "the gateway is scraped", 30)
        assert running.code is None
