"""`trunkline dev`: a simulator and a gateway on it, to build against, until Ctrl-C."""

import asyncio
import tempfile
from pathlib import Path

from rich.console import Console
from trunkline_client import AsyncClient

from gateway.cli.children import Child, ended
from gateway.cli.stack import Stack, until_warm, write_configuration

_WARM_LINES = 2


def dev() -> None:
    """Run both at the product's own ports; returns when one of them ends."""
    console = Console()
    stack = Stack("127.0.0.1:50051", "127.0.0.1:9464", 9180)
    with tempfile.TemporaryDirectory() as folder, ended([]) as children:
        children.append(stack.simulator(None, connect_delay_ms=0))
        config = write_configuration(stack.configuration({}, real=False), Path(folder))
        children.append(stack.gateway(config, None, real=False))
        asyncio.run(_ready(stack, children))
        console.print(f"gateway    {stack.grpc} (gRPC, no token needed)")
        console.print(f"metrics    http://{stack.ops}/metrics")
        console.print(f"simulator  ws://127.0.0.1:{stack.simulator_port}/v1/realtime")
        console.print("Ctrl-C stops both")
        children[-1].wait()
        children[-1].check()


async def _ready(stack: Stack, children: list[Child]) -> None:
    async with AsyncClient(stack.grpc) as client:
        await until_warm(client, "default", _WARM_LINES, children)
