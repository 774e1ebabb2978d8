"""A gateway of one's own, on a simulator or on the real API, for `demo` and `dev`."""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from trunkline_client import AsyncClient, TrunklineError

from gateway.cli.children import Child, free_port
from gateway.cli.failure import CommandError

READY_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Stack:
    """Where things listen."""

    grpc: str
    ops: str
    simulator_port: int

    @classmethod
    def on_free_ports(cls) -> "Stack":
        """Draw ports that are free now."""
        return cls(f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}", free_port())

    def configuration(self, changes: dict[str, Any], *, real: bool) -> dict[str, Any]:
        """Return the gateway's configuration, with `changes` on top."""
        made: dict[str, Any] = {
            "grpc": {"address": self.grpc},
            "ops": {"address": self.ops},
            "limits": {"drain_seconds": 2},
        }
        if not real:
            url = f"ws://127.0.0.1:{self.simulator_port}/v1/realtime"
            made["targets"] = {"openai": {"url": url}}
        return {**made, **changes}

    def simulator(self, log: Path | None, connect_delay_ms: int) -> Child:
        """Start the simulator."""
        arguments = ["--port", str(self.simulator_port), "--connect-delay-ms", str(connect_delay_ms)]
        return Child("simulator", ["simulator", *arguments], log, environment(real=False))

    def gateway(self, config: Path, log: Path | None, *, real: bool) -> Child:
        """Start the gateway."""
        arguments = ["serve", "--config", str(config), "--insecure-dev"]
        if log is None:
            arguments += ["--logs", "pretty"]
        return Child("gateway", arguments, log, environment(real=real))


def environment(*, real: bool) -> dict[str, str]:
    """Return our environment; the provider's key goes along only to the real API."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("TRUNKLINE_")}
    if not real:
        ours.pop("OPENAI_API_KEY", None)
    return ours


def write_configuration(content: dict[str, Any], folder: Path) -> Path:
    """Write the configuration file."""
    path = folder / "trunkline.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


async def until_warm(client: AsyncClient, pool: str, lines: int, children: list[Child]) -> None:
    """Wait until a pool has so many lines ready. Raises `CommandError` when that does not come."""
    ends_at = time.monotonic() + READY_SECONDS
    last = "it does not answer"
    while time.monotonic() < ends_at:
        for child in children:
            child.check()
        try:
            shown = (await client.pools(pool)).pools[0]
        except TrunklineError:
            shown = None
        if shown is not None:
            if shown.warm >= lines:
                return
            last = shown.last_dial_failure or f"{shown.warm} of {lines} lines are ready"
        await asyncio.sleep(_POLL_SECONDS)
    raise CommandError(f"the gateway was not ready within {READY_SECONDS:.0f} s: {last}")
