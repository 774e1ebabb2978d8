"""How many files and sockets this process may have open, and what that leaves for callers."""

import sys
from typing import Final

import structlog

# Listeners, logs, Redis, the loop's own, and dials that come and go.
OWN: Final = 128
_log = structlog.get_logger(__name__)


def callers_connections(wanted: int, lines: int) -> int:
    """Raise the process's limit to what the system allows; return how many connections callers may have of it.

    `lines` = the most lines that there may be: neither they nor Redis must ever lack a descriptor because of callers.
    """
    if sys.platform == "win32":
        return wanted
    import resource  # noqa: PLC0415 not there on every platform

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + lines + OWN
    granted = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < granted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    # Where there are too few for both, half are the callers': lines without callers are of no use.
    usable = max(1, max(soft, granted) - OWN)
    left = max(1, usable - lines, usable // 2)
    if left < wanted:
        _log.warning("few_descriptors", limit=max(soft, granted), count=left, wanted=wanted)
    return min(wanted, left)
