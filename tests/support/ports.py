"""Free ports for listeners, one slice of the range per xdist worker, so that two never draw the same."""

import contextlib
import os
import random
import socket
from typing import Final

# Below the ephemeral range: no outgoing connection sits there by chance.
PORTS: Final = range(20_000, 32_000)
_SLICES: Final = 8


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing is bound to now."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    mine = PORTS[int(worker) % _SLICES :: _SLICES]
    for port in random.sample(mine, 200):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")
