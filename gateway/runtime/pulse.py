"""Notices a leased line that has died without a word, by its silence and a ping.

Sooner while the provider owes something: then somebody waits in silence. Our own delays are not its silence
(liveness.py), and any byte from it is as good as an answer.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from gateway.runtime.liveness import prove
from gateway.runtime.ports import Upstream


@dataclass(frozen=True, slots=True)
class PulseOptions:
    """How long a line may be silent before it is asked, and how long it may take to answer. In seconds."""

    # Together less than the 6 s and 3 s that callers are promised.
    idle_seconds: float = 3.8
    busy_seconds: float = 0.9
    answer_seconds: float = 1.9


async def watch(
    upstream: Upstream, heard_at: Callable[[], float], is_busy: Callable[[], bool], options: PulseOptions
) -> None:
    """Ask a line whenever it has been silent for too long. Raises `UpstreamClosedError` when it is dead.

    `heard_at` tells when its last message came, on the loop's clock.
    """
    now = asyncio.get_running_loop().time
    proven_at = now()
    while True:
        patience = options.busy_seconds if is_busy() else options.idle_seconds
        left = max(proven_at, heard_at()) + patience - now()
        if left > 0:  # it may become busy meanwhile
            await asyncio.sleep(min(left, options.busy_seconds))
            continue
        await prove(upstream, options.answer_seconds)
        proven_at = now()
