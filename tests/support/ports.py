"""Free ports for listeners, one slice of the range per xdist worker, so that two never draw the same."""

import contextlib
import itertools
import os
import random
import socket
from collections.abc import Iterator
from typing import Final

# Below the ephemeral range: no outgoing connection sits there by chance. What follows is the Python client's tests'.
PORTS: Final = range(20_000, 30_000)
_SLICES: Final = 8


def _of_this_process() -> Iterator[int]:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    mine = PORTS[int(worker) % _SLICES :: _SLICES]
    return itertools.cycle(random.sample(mine, len(mine)))


# A port that was drawn is bound a little later: it comes again only after all the others.
_ports: Final = _of_this_process()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing is bound to now, and that was not given for long."""
    for port in itertools.islice(_ports, 200):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")
