"""A Deployment as a cluster runs it, with processes for pods: what the chart has rendered decides what happens when.

The controller makes one pod more than it must have, waits until that has been available for `minReadySeconds`, and
takes an old one away: out of the endpoints at once (which the balancer learns a moment later), the preStop pause,
SIGTERM, and SIGKILL when the grace is over. Each pod has an address of its own and the ports of all. What differs
from a node: a pod's files stand below a folder of its own, its address is one of loopback's, its volumes have nobody's
rights, and of the probes only readiness is asked.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.support.ports import free_port
from tests.support.processes import Process, environment

# From a change of the endpoints until every node's balancer has it: a second is usual, and part of why there is a
# preStop pause.
ENDPOINTS_SECONDS: Final = 1.0
READY_SECONDS: Final = 60.0
# What of loopback the pods' addresses are taken from.
PODS: Final = "127.77.0"
# Where the chart mounts files; each pod has a folder in its place.
MOUNTS: Final = "/etc/trunkline"
Object = dict[str, Any]


@dataclass(frozen=True)
class Timings:
    """What the rendered Deployment says of time, in seconds, and of numbers."""

    replicas: int
    surge: int
    unavailable: int
    available_after: float
    pre_stop: float
    grace: float
    probe_path: str
    probe_period: float
    probe_timeout: float
    probe_failures: int

    @classmethod
    def of(cls, deployment: Object) -> "Timings":
        spec = deployment["spec"]
        pod = spec["template"]["spec"]
        container, rolling = pod["containers"][0], spec["strategy"]["rollingUpdate"]
        probe = container["readinessProbe"]
        return cls(
            replicas=spec["replicas"],
            surge=rolling["maxSurge"],
            unavailable=rolling["maxUnavailable"],
            available_after=spec["minReadySeconds"],
            pre_stop=container["lifecycle"]["preStop"]["sleep"]["seconds"],
            grace=pod["terminationGracePeriodSeconds"],
            probe_path=probe["httpGet"]["path"],
            probe_period=probe["periodSeconds"],
            probe_timeout=probe["timeoutSeconds"],
            probe_failures=probe["failureThreshold"],
        )


@dataclass(eq=False)
class Pod:
    """One process, and what the cluster knows of it."""

    process: Process
    address: str
    ops: str
    is_ready: bool = False
    is_terminating: bool = False
    was_killed: bool = False
    # How long it took from SIGTERM to its end.
    drained_seconds: float = 0.0
    ready: asyncio.Event = field(default_factory=asyncio.Event)


class Deployment:
    """What runs. `endpoints` are the addresses that a balancer has at this moment; all have the port `port`."""

    def __init__(self, objects: Sequence[Object], files: Mapping[str, Mapping[str, bytes]], folder: Path) -> None:
        """Take over what was rendered; `files` are the Secrets that it names, by name and key."""
        (self._object,) = [each for each in objects if each["kind"] == "Deployment"]
        self._maps = {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}
        self.timings = Timings.of(self._object)
        self._files = files
        self._folder = folder
        self.port, self._ops_port = free_port(), free_port()
        self.endpoints: list[str] = []
        self.pods: list[Pod] = []
        self._changes: set[asyncio.Task[None]] = set()
        # What went wrong in here, and not in a pod.
        self._faults: list[BaseException] = []

    # The controller.

    async def start(self) -> None:
        """Make all pods at once, and return when each is ready."""
        fresh = [self._made() for _ in range(self.timings.replicas)]
        await asyncio.gather(*(self._until_ready(pod) for pod in fresh))
        await self._settled()

    async def roll(self) -> list[Pod]:
        """Replace every pod by a fresh one; return those that are gone, when all are."""
        assert (self.timings.surge, self.timings.unavailable) == (1, 0), "another strategy is another walk"
        old, going = list(self.pods), list[asyncio.Task[None]]()
        for pod in old:
            fresh = self._made()
            await self._until_ready(fresh)
            await asyncio.sleep(self.timings.available_after)
            assert fresh.is_ready, "a fresh pod did not stay ready"
            # The next one is made without waiting for the end of this one.
            going.append(asyncio.create_task(self._terminated(pod)))
        await asyncio.gather(*going)
        assert self._faults == []
        return old

    async def stop(self) -> None:
        """End what still runs."""
        for task in tuple(self._changes):
            task.cancel()
        for pod in self.pods:
            if not pod.process.ended:
                pod.process.send(signal.SIGTERM)
        for pod in self.pods:
            await asyncio.to_thread(pod.process.stop)

    # The kubelet.

    def _made(self) -> Pod:
        folder = self._folder / f"pod-{len(self.pods)}"
        host = f"{PODS}.{len(self.pods) + 1}"
        address, ops = f"{host}:{self.port}", f"{host}:{self._ops_port}"
        self._mount(folder)
        spec = self._object["spec"]["template"]["spec"]["containers"][0]
        arguments = [each.replace(MOUNTS, str(folder)) for each in spec["args"]]
        told = {"TRUNKLINE_GRPC__ADDRESS": address, "TRUNKLINE_OPS__ADDRESS": ops, "TRUNKLINE_GRPC__ADVERTISE": address}
        names = {each["name"] for each in spec["env"]}
        assert "TRUNKLINE_GRPC__ADVERTISE" in names, "a pod tells its own address"
        process = Process(["-m", "gateway", *arguments], folder / "log", environment(**told))
        pod = Pod(process, address, ops)
        self.pods.append(pod)
        self._spawn(self._probed(pod))
        return pod

    def _mount(self, folder: Path) -> None:
        """Lay out the volumes as the rendered mounts say."""
        spec = self._object["spec"]["template"]["spec"]
        volumes = {each["name"]: each for each in spec["volumes"]}
        for mount in spec["containers"][0]["volumeMounts"]:
            path, volume = mount["mountPath"], volumes[mount["name"]]
            if not path.startswith(MOUNTS):
                continue
            place = folder / Path(path).relative_to(MOUNTS)
            place.mkdir(parents=True)
            if "configMap" in volume:
                for name, text in self._maps[volume["configMap"]["name"]].items():
                    (place / name).write_text(text.replace(MOUNTS, str(folder)), "utf-8")
            else:
                for name, content in self._files[volume["secret"]["secretName"]].items():
                    (place / name).write_bytes(content)

    async def _probed(self, pod: Pod) -> None:
        """Ask whether it is ready, as often as the chart says, until it goes away."""
        timings, failures = self.timings, 0
        timeout = aiohttp.ClientTimeout(total=timings.probe_timeout)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while not pod.is_terminating:
                well = False
                with suppress(aiohttp.ClientError, TimeoutError):
                    async with http.get(f"http://{pod.ops}{timings.probe_path}") as answer:
                        well = answer.status == 200
                failures = 0 if well else failures + 1
                if well != pod.is_ready and (well or failures >= timings.probe_failures):
                    pod.is_ready = well
                    self._spawn(self._endpoint_changed(pod))
                    if well:
                        pod.ready.set()
                await asyncio.sleep(timings.probe_period)

    async def _endpoint_changed(self, pod: Pod) -> None:
        await asyncio.sleep(ENDPOINTS_SECONDS)
        belongs = pod.is_ready and not pod.is_terminating
        if belongs and pod.address not in self.endpoints:
            self.endpoints.append(pod.address)
        elif not belongs and pod.address in self.endpoints:
            self.endpoints.remove(pod.address)

    async def _until_ready(self, pod: Pod) -> None:
        async with asyncio.timeout(READY_SECONDS):
            while not pod.is_ready:
                assert not pod.process.ended, f"a pod ended: {pod.process.output[-2000:]}"
                with suppress(TimeoutError):
                    await asyncio.wait_for(pod.ready.wait(), 0.5)

    async def _settled(self) -> None:
        async with asyncio.timeout(READY_SECONDS):
            while len(self.endpoints) < self.timings.replicas:  # noqa: ASYNC110 it follows its own clock
                await asyncio.sleep(0.05)

    async def _terminated(self, pod: Pod) -> None:
        """Take a pod away, as its kubelet does."""
        pod.is_terminating = True
        self._spawn(self._endpoint_changed(pod))
        await asyncio.sleep(self.timings.pre_stop)
        began = time.monotonic()
        pod.process.send(signal.SIGTERM)
        left = self.timings.grace - self.timings.pre_stop
        while not pod.process.ended and time.monotonic() - began < left:  # noqa: ASYNC110 it is another process
            await asyncio.sleep(0.05)
        pod.drained_seconds = time.monotonic() - began
        if not pod.process.ended:
            pod.was_killed = True
            pod.process.send(signal.SIGKILL)
            await asyncio.to_thread(pod.process.wait)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._changes.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._changes.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._faults.append(fault)


@asynccontextmanager
async def deployment(
    objects: Sequence[Object], files: Mapping[str, Mapping[str, bytes]], folder: Path
) -> AsyncIterator[Deployment]:
    """Run what was rendered, and give it when all pods are ready."""
    running = Deployment(objects, files, folder)
    try:
        await running.start()
        yield running
    finally:
        await running.stop()
