"""What a call's deadline leaves of its stream."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.core import events as out
from gateway.core.events import Outgoing
from gateway.core.principal import Principal
from gateway.rpc.stream import GrpcStream
from gateway.runtime.ports import CallerGoneError


class Context:
    """A call whose deadline is near."""

    def __init__(self, seconds: float, metadata: Sequence[tuple[str, str | bytes]] | None = ()) -> None:
        self._seconds = seconds
        self._metadata = metadata
        self.written: list[Any] = []

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]] | None:
        return self._metadata

    def time_remaining(self) -> float:
        return self._seconds

    async def write(self, message: Any) -> None:
        self.written.append(message)


def stream_on(context: Context) -> GrpcStream:
    return GrpcStream(context, Principal("t", "c", frozenset()), 1000)  # type: ignore[arg-type]


async def test_a_call_that_its_deadline_has_cut_does_not_end_well_before_it() -> None:
    context = Context(0.01)
    stream = stream_on(context)
    with pytest.raises(CallerGoneError):
        await stream.write(Outgoing(out.ResponseCreated("r", {})))
    assert context.written == []
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stream.end(), 0.05)


async def test_a_call_with_time_left_ends_at_once() -> None:
    context = Context(60.0)
    stream = stream_on(context)
    await stream.write(Outgoing(out.ResponseCreated("r", {})))
    assert len(context.written) == 1
    await asyncio.wait_for(stream.end(), 0.05)


SPAN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("metadata", "trace"),
    [
        ([("x-other", "1"), ("traceparent", SPAN)], SPAN),
        ([("traceparent", "x" * 10_000)], ""),
        ([("traceparent-bin", b"x")], ""),
        ([], ""),
        (None, ""),
    ],
)
def test_a_callers_span_is_taken_from_the_call(metadata: Sequence[tuple[str, str | bytes]] | None, trace: str) -> None:
    async def made() -> GrpcStream:
        return stream_on(Context(1.0, metadata))

    assert asyncio.run(made()).trace == trace
