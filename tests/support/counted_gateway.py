"""`trunkline serve`, and at SIGUSR1 it writes down what it holds: tasks, files, objects, memory.

python -m tests.support.counted_gateway CONFIG    the counts stand in counts.json beside CONFIG
"""

import asyncio
import gc
import json
import os
import signal
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

from gateway.app import Gateway
from gateway.cli import serve
from gateway.settings import load
from gateway.store import record
from gateway.telemetry.logs import configure
from tests.support.residue import open_files, resident_bytes

COUNTS: Final = "counts.json"
COMMAND: Final = ("-m", __name__)
# The sealer remembers the ciphers of so many sessions by design (4,096): filled before the counting begins.
CIPHERS_MAX: Final = 64


def sockets() -> Counter[str]:
    """Count this process's sockets: callers and lines have one family, the embedded store another."""
    kinds = Counter[str]()
    for each in Path("/proc/self/fd").iterdir():
        try:
            is_socket = str(each.readlink()).startswith("socket:")
        except FileNotFoundError:  # it was the folder that we look through
            continue
        if is_socket:
            with socket.socket(fileno=os.dup(int(each.name))) as copy:
                kinds[f"socket {copy.family.name}"] += 1
    return kinds


def _runs(task: "asyncio.Task[Any]") -> str:
    return getattr(task.get_coro(), "__qualname__", "?")


def _write(file: Path) -> None:
    gc.collect()
    objects = gc.get_objects()
    kinds = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in objects)
    found = {
        "tasks": Counter(_runs(each) for each in asyncio.all_tasks() if not each.done()),
        "files": Counter({kind: n for kind, n in open_files().items() if kind != "socket"}) + sockets(),
        "objects": len(objects),
        "kinds": kinds,
        "resident_kib": resident_bytes() >> 10,
    }
    del objects
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(found), "utf-8")
    fresh.replace(file)


async def _counted(config: Path) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _write, config.with_name(COUNTS))
    await serve._until_signal(Gateway(load(config), insecure_dev=True))


if __name__ == "__main__":
    record.CIPHERS_MAX = CIPHERS_MAX  # type: ignore[misc]
    configure(pretty=False)
    serve.run(_counted(Path(sys.argv[1])))
