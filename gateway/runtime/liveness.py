"""Whether a line is alive, judged by its answers and not by our own delays.

A send that succeeds proves nothing, and a loop that stood still has heard nothing by its own fault: waiting is
counted in slices, and a slice that came late counts once.
"""

import asyncio
from typing import Final

from gateway.core.errors import Reason, UpstreamClosedError
from gateway.runtime.ports import Upstream

SLICE_SECONDS: Final = 0.1


async def prove(upstream: Upstream, patience_seconds: float) -> None:
    """Return when the line has answered a ping. Raises `UpstreamClosedError` when it does not in time."""
    answer = asyncio.ensure_future(upstream.ping())
    waited_seconds = 0.0
    try:
        while waited_seconds < patience_seconds:
            await asyncio.wait({answer}, timeout=SLICE_SECONDS)
            if answer.done():
                return answer.result()
            waited_seconds += SLICE_SECONDS
        text = f"the provider has not answered a ping for {patience_seconds:.0f} s"
        raise UpstreamClosedError(Reason.UPSTREAM_CLOSED, text)
    finally:
        answer.cancel()
