"""`trunkline demo`: calls over warm lines and over cold ones, heard, measured and drawn."""

import asyncio
import json
import os
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from trunkline_client import AsyncClient
from trunkline_client.audio import write_wav

from gateway.cli.call import failures, make_call, plan
from gateway.cli.children import Child, ended
from gateway.cli.failure import CommandError
from gateway.cli.figures import Call, summary
from gateway.cli.report import plot, table
from gateway.cli.stack import Stack, until_warm, write_configuration

# What opening a line costs at the real API, roughly; the simulator is told to take as long.
CONNECT_DELAY_MS: Final = 500
WARM_LINES: Final = 8
AT_ONCE: Final = 3
REHEARSAL: Final = 2
# One call: about 150 text tokens in, 30 audio tokens in, 150 audio tokens out.
_DOLLARS_PER_CALL: Final = 0.012
_CONFIGURATION: Final[dict[str, Any]] = {
    "templates": {"default": {}, "cold": {}},
    "pools": {
        "default": {"floor": WARM_LINES, "ceiling": 32},
        # A floor of 0: each caller waits for its own dial, on the same gateway and path.
        # Cold stays cold: without this its floor would follow the demand of the demo itself.
        "cold": {"floor": 0, "ceiling": 16, "wait_max_ms": 10_000, "demand": {"enabled": False}},
    },
}


def demo(*, real: bool, calls: int, output: Path) -> None:
    """Run it all; raises `CommandError` when it cannot, or when a call failed."""
    console = Console()
    if find_spec("matplotlib") is None:  # said before the calls, which may cost money
        raise CommandError("the plot needs matplotlib: install trunkline[tools]")
    if real:
        _announce(console, calls)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"--output {output} cannot be used: {error.strerror}") from None
    with tempfile.TemporaryDirectory() as folder, ended([]) as children:
        stack = Stack.on_free_ports()
        if not real:
            delay = CONNECT_DELAY_MS
            children.append(stack.simulator(output / "simulator.log", delay))
        config = write_configuration(stack.configuration(_CONFIGURATION, real=real), Path(folder))
        children.append(stack.gateway(config, output / "gateway.log", real=real))
        groups = asyncio.run(_calls(stack, calls, children, console))
    _leave(groups, output, console)


def _announce(console: Console, calls: int) -> None:
    """Say what it will cost before a cent is spent."""
    if not os.environ.get("OPENAI_API_KEY"):
        raise CommandError("OPENAI_API_KEY is not set; the real API needs it")
    dollars = 2 * calls * _DOLLARS_PER_CALL
    console.print(f"{2 * calls} calls to the real API: about ${dollars:.2f}")


async def _calls(stack: Stack, calls: int, children: list[Child], console: Console) -> dict[str, list[Call]]:
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    async with AsyncClient(stack.grpc) as client:
        console.print(f"opening {WARM_LINES} lines …")
        await until_warm(client, "default", WARM_LINES, children)
        # The first calls of three fresh processes measure their start, not the lines.
        console.print("two calls for rehearsal, not counted …")
        await _group(client, "default", REHEARSAL, lambda: None)
        await until_warm(client, "default", WARM_LINES, children)
        made = {}
        with Progress(*columns, console=console) as progress:
            for name, template in (("warm", "default"), ("cold", "cold")):
                task = progress.add_task(f"calls over {name} lines", total=calls)
                advance = lambda task=task: progress.advance(task)  # noqa: E731 bound per loop
                made[name] = await _group(client, template, calls, advance)
        return made


async def _group(client: AsyncClient, template: str, calls: int, advance: Callable[[], None]) -> list[Call]:
    places = asyncio.Semaphore(AT_ONCE)

    async def one(*what: Any) -> Call:
        async with places:
            call = await make_call(client, template, *what)
        advance()
        return call

    return list(await asyncio.gather(*(one(*what) for what in plan(calls))))


def _leave(groups: dict[str, list[Call]], output: Path, console: Console) -> None:
    """Write the results and show them."""
    for old in output.glob("warm-*.wav"):
        old.unlink()
    for call in groups["warm"]:
        write_wav(output / f"warm-{call.number:02}-{call.kind}.wav", bytes(call.audio))
    report = {name: summary(calls) for name, calls in groups.items()}
    (output / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    plot(groups, output / "latency.png")
    console.print(table(report))
    warm, cold = report["warm"], report["cold"]
    console.print(f"{warm['warm_hits']} of {warm['calls']} warm calls found a line ready at once")
    if warm["open_ms"]["p50"] and cold["open_ms"]["p50"]:
        ratio = cold["open_ms"]["p50"] / warm["open_ms"]["p50"]
        console.print(f"a warm line opens {ratio:.0f} times as fast as a cold one (median)")
    console.print(f"{output}/: a WAV of each warm call, latency.png, report.json")
    failed = [line for calls in groups.values() for line in failures(calls)]
    if failed:
        raise CommandError("\n".join(failed))
