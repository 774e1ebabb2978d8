"""A gateway that is measured: a process of its own, against a simulator in another one."""

import contextlib
import os
import resource
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.ports import free_port
from tests.support.processes import UNLIMITED, Process, ProcessStack, all_gone, descendants, environment, write_yaml
from tests.support.simulated import SimulatedProvider, simulated_provider
from tests.support.stack import pool
from tests.support.tls_front import tls_front

SERVE: Final = ("-m", "gateway", "serve", "--insecure-dev", "--config")
# Before whatever else this machine has to do.
_PRECEDENCE: Final = -10


@dataclass
class Rig(ProcessStack):
    """Both, with the provider's control."""

    provider: SimulatedProvider

    def resident_kib(self) -> int:
        """Return what the gateway has in memory."""
        pages = int(Path(f"/proc/{self.gateway.pid}/statm").read_text("ascii").split()[1])
        return pages * resource.getpagesize() >> 10

    def processor_seconds(self) -> float:
        fields = Path(f"/proc/{self.gateway.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def rig(
    simulated: Mapping[str, Any] | None = None,
    *,
    command: Sequence[str] = SERVE,
    secure: bool = False,
    **changes: Any,
) -> Iterator[Rig]:
    """Run both; fail when a process of theirs is left behind. `secure` = the lines are encrypted."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tk", dir="/tmp")))
        provider = stack.enter_context(simulated_provider(folder, **(simulated or {})))
        url, trust = provider.url, dict[str, str]()
        if secure:
            front = stack.enter_context(tls_front(folder, provider.port))
            url, trust = f"wss://127.0.0.1:{front.port}/v1/realtime", front.trust
        address, ops = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        content: dict[str, Any] = {
            "grpc": {"address": address},
            "ops": {"address": ops},
            "accounts": UNLIMITED,
            "limits": {"drain_seconds": 1},
            "pools": {"default": pool()},
            **changes,
        }
        content["targets"] = {"openai": {"url": url}, **changes.get("targets", {})}
        arguments = [*command, str(write_yaml(folder, content))]
        gateway = Process(arguments, folder / "gateway.log", environment(**trust))
        below = set[int]()
        try:
            gateway.says('"serving"')
            below = descendants(gateway.pid)
            yield Rig(provider.process, gateway, content["grpc"]["address"], ops, folder, content, provider)
        finally:
            gateway.stop()
            all_gone(below | {gateway.pid})


@contextmanager
def precedence() -> Iterator[None]:
    """Let this process, and all that it starts meanwhile, go before others where the system allows it.

    A measurement of the last hundredth is otherwise one of the neighbours.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _PRECEDENCE)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)
