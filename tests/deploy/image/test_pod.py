"""The chart's Deployment, started by `podman kube play` with its ConfigMap and its Secrets: production, TLS everywhere.

| in the rendered objects | here | because |
|---|---|---|
| the pod's own network | `hostNetwork: true` | there is no network for pods on this machine |
| listeners on 0.0.0.0, `ports` | 127.0.0.1 and drawn ports, no `ports` | the machine's network is shared |
| `status.podIP`, `$(POD_IP)` | 127.0.0.1, written out | podman 4.3 knows neither |
| probes | none; the test asks the same paths | podman runs them by a shell in the image, which has none |
| `preStop: sleep` | the test waits in kubelet's place | podman 4.3 knows no such hook |
| Secrets | by `podman secret create`, not encoded | podman 4.3 mounts them as they are encoded |
| volumes of Secrets | `optional: false`, the default, written out | podman 4.3 ends in a panic without |

Everything else is as it was rendered. `fsGroup` and `defaultMode` are not podman's: the files can be read by anybody.
"""

import asyncio
import json
import os
import re
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import trustme
import yaml

from tests.deploy.image.conftest import Built
from tests.deploy.image.talks import finished, heard_out, talking
from tests.support.calls import Caller
from tests.support.containers import Containers, command, run
from tests.support.helm import Object, only, render
from tests.support.ports import free_port
from tests.support.redis_access import GATEWAY_PASSWORD, SEALING_KEY
from tests.support.redis_tls import TlsRedis, tls_redis
from tests.support.simulated import simulated_provider
from tests.support.stack import channel_to
from tests.support.waiting import eventually, eventually_sync

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]
TOKEN: Final = "token-of-the-bot"
CALLS: Final = 6
PRE_STOP_SECONDS: Final = 2
DRAIN_SECONDS: Final = 30
POD: Final = "trunkline-pod"


def values(image: Built, redis: TlsRedis, upstream: str) -> dict[str, Any]:
    """Return what an operator would write for production, with one gateway."""
    repository, _, tag = image.tag.rpartition(":")
    return {
        "image": {"repository": repository, "tag": tag},
        "replicas": 1,
        "preStopSeconds": PRE_STOP_SECONDS,
        "config": {
            "targets": {"openai": {"url": upstream}},
            "accounts": {"main": {"dials_per_second": 100, "dials_burst": 100}},
            "pools": {"default": {"floor": CALLS + 1, "ceiling": 24, "dials_max": 8}},
            "limits": {"drain_seconds": DRAIN_SECONDS},
        },
        "providerKeys": {"main": {"existingSecret": "openai"}},
        "callers": [{"name": "bot", "tenant": "acme", "tokenSha256": {"existingSecret": "callers", "key": "bot"}}],
        "tls": {"existingSecret": "listener"},
        "redis": {
            "url": redis.url,
            "password": {"existingSecret": "redis"},
            "ca": {"existingSecret": "redis-ca"},
        },
        "sealingKeys": {"existingSecret": "sealing"},
    }


def secrets(authority: trustme.CA, redis: TlsRedis) -> dict[str, dict[str, str]]:
    """Return what those values name."""
    issued = authority.issue_cert("127.0.0.1")
    return {
        "openai": {"api-key": "key-of-nobody"},
        "callers": {"bot": sha256(TOKEN.encode()).hexdigest()},
        "listener": {
            "tls.crt": b"".join(each.bytes() for each in issued.cert_chain_pems).decode(),
            "tls.key": issued.private_key_pem.bytes().decode(),
        },
        "redis": {"password": GATEWAY_PASSWORD},
        "redis-ca": {"ca.crt": redis.ca_file.read_text("ascii")},
        "sealing": {"k1": SEALING_KEY.hex()},
    }


def adapted(objects: list[Object], grpc_port: int, ops_port: int) -> tuple[Object, Object]:
    """Return Deployment and ConfigMap as the table above says."""
    deployment, configuration = only(objects, "Deployment", "gateway"), only(objects, "ConfigMap", "gateway")
    pod = deployment["spec"]["template"]["spec"]
    pod["hostNetwork"] = True
    (gateway,) = pod["containers"]
    for each in ("ports", "startupProbe", "livenessProbe", "readinessProbe"):
        del gateway[each]
    for volume in pod["volumes"]:
        if "secret" in volume:
            volume["secret"]["optional"] = False
    assert [each["name"] for each in gateway["env"]] == ["POD_IP", "TRUNKLINE_GRPC__ADVERTISE"]
    gateway["env"] = [{"name": "TRUNKLINE_GRPC__ADVERTISE", "value": f"127.0.0.1:{grpc_port}"}]
    settings = yaml.safe_load(configuration["data"]["trunkline.yaml"])
    assert (settings["grpc"]["address"], settings["ops"]["address"]) == ("0.0.0.0:50051", "0.0.0.0:9464")
    settings["grpc"]["address"], settings["ops"]["address"] = f"127.0.0.1:{grpc_port}", f"127.0.0.1:{ops_port}"
    configuration["data"]["trunkline.yaml"] = yaml.safe_dump(settings)
    return deployment, configuration


@dataclass
class Pod:
    """What runs, and what kubelet would know of it."""

    containers: Containers
    name: str
    gateway: str
    address: str
    ops: str
    credentials: grpc.ChannelCredentials
    # The container as it was rendered, and the pod's grace.
    rendered: Object
    grace_seconds: int

    def answers(self, probe: str) -> bool:
        """Ask what kubelet would ask."""
        path = self.rendered[probe]["httpGet"]["path"]
        try:
            with urllib.request.urlopen(f"http://{self.ops}{path}", timeout=5):
                return True
        except (OSError, urllib.error.URLError):
            return False

    def said(self, word: str) -> bool:
        """Whether the gateway has logged an event."""
        told = run([command("podman"), "logs", self.gateway], self.containers.env)
        return f'"event": "{word}"' in told.stdout + told.stderr

    def stop(self) -> None:
        """End it as kubelet does: the hook, SIGTERM, and SIGKILL when the grace is over. Blocks."""
        hook = self.rendered["lifecycle"]["preStop"]["sleep"]["seconds"]
        time.sleep(hook)
        grace = self.grace_seconds - hook
        self.containers.podman("pod", "stop", "--time", str(grace), self.name, seconds=grace + 30)

    @property
    def state(self) -> dict[str, Any]:
        return dict(self.containers.inspect(self.gateway)["State"])


@contextmanager
def played(image: Built) -> Iterator[Pod]:
    """Render the chart and start what it gives."""
    place = image.containers
    command("catatonit")
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as made, ExitStack() as stack:
        folder, authority = Path(made), trustme.CA()
        redis = stack.enter_context(tls_redis())
        provider = stack.enter_context(simulated_provider(folder, speed=0.5))
        objects = render(values(image, redis, provider.url))
        spec = json.loads(json.dumps(only(objects, "Deployment", "gateway")))["spec"]["template"]["spec"]
        grpc_port, ops_port = free_port(), free_port()
        for name, content in secrets(authority, redis).items():
            written = yaml.safe_dump({"kind": "Secret", "metadata": {"name": name}, "data": content})
            (folder / name).write_text(written, "utf-8")
            place.podman("secret", "create", name, folder / name)
        file = folder / "objects.yaml"
        file.write_text(yaml.safe_dump_all(adapted(objects, grpc_port, ops_port)), "utf-8")
        stack.callback(_removed, place)
        place.podman("kube", "play", file)
        names = place.podman("ps", "--all", "--pod", "--format", "{{.PodName}} {{.Names}}").splitlines()
        pod, gateway = next(each.split() for each in names if each.endswith("-gateway"))
        assert pod.startswith(POD)
        yield Pod(
            place,
            pod,
            gateway,
            f"127.0.0.1:{grpc_port}",
            f"127.0.0.1:{ops_port}",
            grpc.ssl_channel_credentials(authority.cert_pem.bytes()),
            spec["containers"][0],
            spec["terminationGracePeriodSeconds"],
        )


def _removed(place: Containers) -> None:
    place.podman("pod", "rm", "--force", "--all", "--time", "1")
    place.podman("volume", "rm", "--all", "--force")
    place.podman("secret", "rm", "--all")


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def root_is_read_only(pid: int) -> bool:
    mounts = Path(f"/proc/{pid}/mountinfo").read_text("utf-8")
    return re.search(r"^\S+ \S+ \S+ / / ro", mounts, re.MULTILINE) is not None


async def test_the_rendered_deployment_serves_calls_and_loses_none_at_its_end(image: Built) -> None:
    with played(image) as pod:
        eventually_sync(lambda: pod.answers("startupProbe"), "it has started", 60, 0.2)
        eventually_sync(lambda: pod.answers("readinessProbe"), "it is ready", 60, 0.2)
        assert pod.answers("livenessProbe")
        assert pod.said("serving")
        held = status(pod.state["Pid"])
        assert held["Uid"].split() == ["65532"] * 4
        assert (int(held["CapBnd"], 16), held["NoNewPrivs"], held["Seccomp"]) == (0, "1", "2")
        assert root_is_read_only(pod.state["Pid"])
        # Its store is elsewhere, so it needs no place to write at all.
        assert not os.listdir(Path("/proc", str(pod.state["Pid"]), "root", "tmp"))  # noqa: PTH208 pathlib blocks in a coroutine
        async with channel_to(pod.address, pod.credentials) as channel:
            assert (await Caller(channel, "another").refused()).reason == "UNAUTHENTICATED"
            async with talking(channel, CALLS, TOKEN) as callers:
                stopping = asyncio.create_task(asyncio.to_thread(pod.stop))
                # While the hook holds SIGTERM back, who has not heard of the end yet is served.
                late = Caller(channel, TOKEN)
                assert (await late.open()).owner_address == pod.address
                assert not await asyncio.to_thread(pod.said, "draining")
                await eventually(lambda: not pod.answers("readinessProbe"), "it is not ready any more", 20)
                assert (await Caller(channel, TOKEN).refused()).reason == "DRAINING"
                assert not any(map(heard_out, callers)), "the answers were over before the signal"
                assert pod.answers("livenessProbe")
                await late.bye()
                await late.rest()
                ends = await asyncio.gather(*map(finished, callers))
        assert ends == [(True, grpc.StatusCode.OK)] * CALLS
        await stopping
        assert (pod.state["Status"], pod.state["ExitCode"]) == ("exited", 0)
        assert pod.said("stopped")
