"""What grpc.aio's stream lacks: typed endings, and a status that survives a failed write."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from typing import Final, TypeVar, cast

import grpc
from grpc import StatusCode, aio
from trunkline.v1.lease_pb2 import KeepAliveRequest, KeepAliveResponse
from trunkline.v1.session_pb2 import ConverseRequest, ConverseResponse

from trunkline_client._channel import ChannelArguments
from trunkline_client._status import error_of
from trunkline_client.errors import refusal

_Request = TypeVar("_Request")
_Value = TypeVar("_Value")

# grpc.aio puts this status over the gateway's own when a write fails because the call has ended
# (grpc/grpc#36066): without the care taken here every session that ends while its caller speaks
# would lose its last events and its reason.
_OVERWRITTEN: Final = "Internal error from Core"
_STATUS_TIMEOUT_SECONDS: Final = 1.0
_STATUS_POLL_SECONDS: Final = 0.005

GrpcCall = aio.StreamStreamCall[ConverseRequest, ConverseResponse]


class StreamOverError(Exception):
    """A write came too late. Reading tells what ended the stream."""


class AsyncCall:
    """One `Converse` call: one reader at a time, one writer at a time.

    Cancelling a read or a write cancels the call. Where the call was cancelled under them they
    raise CANCELLED.
    """

    def __init__(self, call: GrpcCall, channel: aio.Channel | None = None) -> None:
        """Take over a call that was just started, and the channel that is there for it alone."""
        self._call = call
        self._channel = channel
        # Not `read()`, which gives up what has arrived as soon as a write has failed.
        self._responses = cast("AsyncGenerator[ConverseResponse, None]", call.__aiter__())
        self._noted: aio.AioRpcError | None = None
        call.add_done_callback(self._note_status)

    async def write(self, request: ConverseRequest) -> None:
        """Hand a message to gRPC. Raises `StreamOverError`; bounded by its caller."""
        try:
            await self._call.write(request)
        except (aio.AioRpcError, asyncio.InvalidStateError):
            raise StreamOverError from None
        except asyncio.CancelledError:
            raise_if_cut()
            raise

    async def finish(self) -> None:
        """Say that no more is written."""
        try:
            await self._call.done_writing()
        except asyncio.CancelledError:
            raise_if_cut()
            raise

    async def read(self) -> ConverseResponse | None:
        """Return the next message, None at status OK. Raises what another status means."""
        try:
            return await anext(self._responses, None)
        except aio.AioRpcError as failure:
            status = await self._true_status(failure)
        except asyncio.CancelledError:
            raise_if_cut()
            raise
        if status.code() is StatusCode.OK:
            return None
        raise error_of(status)

    def cancel(self) -> None:
        """End the call here and there; nothing happens if it is over."""
        self._call.cancel()

    async def aclose(self) -> None:
        """Cancel, and leave nothing to the garbage collector. Only while nobody reads."""
        self._call.cancel()
        await self._responses.aclose()
        if self._channel is not None:
            await self._channel.close()

    def _note_status(self, call: GrpcCall) -> None:
        """Keep the first status at the moment it is set: a moment later it may be overwritten."""
        self._noted = aio.AioRpcError(
            _at_once(call.code()),
            None,
            _at_once(call.trailing_metadata()),
            _at_once(call.details()),
        )

    async def _true_status(self, failure: aio.AioRpcError) -> aio.AioRpcError:
        """Return the gateway's status, whether the failed write came after it or before."""
        if failure.details() != _OVERWRITTEN:
            return failure
        if self._noted is not None and self._noted.details() != _OVERWRITTEN:
            return self._noted
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STATUS_TIMEOUT_SECONDS):
                # gRPC calls back for the first status only, so the second is looked for.
                while await self._call.details() == _OVERWRITTEN:  # noqa: ASYNC110
                    await asyncio.sleep(_STATUS_POLL_SECONDS)
        code, trailers = await self._call.code(), await self._call.trailing_metadata()
        return aio.AioRpcError(code, None, trailers, await self._call.details())


def raise_if_cut() -> None:
    """Raise CANCELLED if a call was cancelled under the running task, not with it.

    grpc.aio raises `CancelledError` for both, which would end a task that nobody has cancelled. What a call says of
    itself is no help: a write that hung has given it another status before.
    """
    task = asyncio.current_task()
    if task is not None and not task.cancelling():
        raise refusal("CANCELLED", "this side cancelled the call") from None


def make_channel(address: str, arguments: ChannelArguments, credentials: grpc.ChannelCredentials | None) -> aio.Channel:
    """Return a channel, in plaintext without credentials. It connects with the first call."""
    if credentials is None:
        return aio.insecure_channel(address, arguments)
    return aio.secure_channel(address, credentials, arguments)


async def answer(call: aio.UnaryUnaryCall[_Request, _Value]) -> _Value:
    """Return the answer to a call. Raises what a status other than OK means."""
    try:
        return await call
    except aio.AioRpcError as failure:
        raise error_of(failure) from None
    except asyncio.CancelledError:
        raise_if_cut()
        raise


RenewalCall = aio.StreamStreamCall[KeepAliveRequest, KeepAliveResponse]


async def only_answer(call: RenewalCall) -> KeepAliveResponse:
    """Return the answer to a renewal. Raises what another status than OK means."""
    try:
        answers = [answer async for answer in call]
    except aio.AioRpcError as failure:
        raise error_of(failure) from None
    except asyncio.CancelledError:
        raise_if_cut()
        raise
    if not answers:
        raise refusal("CONNECTION_LOST", "the renewal was not answered")
    return answers[-1]


def _at_once(coroutine: Coroutine[None, None, _Value]) -> _Value:
    """Return what a coroutine that has nothing to wait for returns."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast("_Value", done.value)
    raise AssertionError("gRPC called back before there was a status")
