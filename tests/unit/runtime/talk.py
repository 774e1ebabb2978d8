"""What a session's tests say and hear, again and again."""

import asyncio
import base64

from gateway.core import events as out
from gateway.core.errors import GatewayError
from tests.unit.runtime.fakes import Caller, Line
from tests.unit.runtime.stage import Stage

Call = asyncio.Task[GatewayError | None]


def speak(line: Line, size: int = 480) -> None:
    """A piece of an answer comes down the line."""
    delta = base64.b64encode(bytes(size)).decode()
    line.tell("response.output_audio.delta", response_id="r", item_id="i", delta=delta)


def closed(caller: Caller) -> out.Closed:
    event = caller.got[-1].event
    assert isinstance(event, out.Closed), f"the last word is {event}"
    return event


async def ended(stage: Stage, call: Call) -> GatewayError | None:
    error = await call
    await stage.everything_is_given_back()
    assert len(stage.observer.reports) == 1
    return error
