"""One `Converse` call as the runtime's `CallerStream`: read a message, write a message."""

import asyncio
from typing import Any, Final, TypeAlias

import grpc
from trunkline.v1 import session_pb2 as session

from gateway.core.errors import CallerError, Reason
from gateway.core.events import CallerAck, CallerMessage, GatewayAck, Outgoing, Refused
from gateway.core.principal import Principal
from gateway.rpc.requests import caller_ack, caller_message
from gateway.rpc.responses import response
from gateway.runtime.ports import CallerGoneError

# So long before a call's deadline nothing is written any more: gRPC refuses a write that the deadline overtakes, and
# never lets go of the future that it has made for it.
LAST_WRITE_SECONDS: Final = 0.02
# Of the caller's own span: W3C trace context. Its value has 55 characters; what is much longer is none.
TRACEPARENT: Final = "traceparent"
TRACEPARENT_MAX: Final = 128
# In which a deadline that is due ends the call at its both ends.
MORE_SECONDS: Final = 1.0
Context: TypeAlias = "grpc.aio.ServicerContext[session.ConverseRequest, session.ConverseResponse]"
_END: Final[Any] = grpc.aio.EOF


class GrpcStream:
    """Reads and writes one call, each from one task at a time."""

    def __init__(self, context: Context, principal: Principal, message_max_bytes: int) -> None:
        """Wrap a call. Messages over the limit are refused one by one; the stream goes on."""
        self.principal = principal
        self._context = context
        self._message_max_bytes = message_max_bytes
        self._is_gone = False
        # Whether the deadline was so near that something was not written.
        self._is_late = False
        self._now = asyncio.get_running_loop().time
        self._ends_at = self._now() + self.remaining_seconds() - LAST_WRITE_SECONDS
        self.size_bytes = self.audio_position = self.written_bytes = 0
        self.trace = _trace_of(context)
        self.ack: CallerAck | None = None

    def leave(self) -> None:
        """Record that the call is over: a write would never end, and leave its future behind in gRPC."""
        self._is_gone = True

    async def end(self) -> None:
        """Let a deadline that has kept back the last words come: a call that was cut has not ended well."""
        if self._is_late:
            await asyncio.sleep(LAST_WRITE_SECONDS + MORE_SECONDS)

    def remaining_seconds(self) -> float:
        """How long until the caller's deadline; +inf = it has none."""
        left = self._context.time_remaining()
        return float("inf") if left is None else max(0.0, left)

    async def read(self) -> CallerMessage | None:
        """Return the next message; None = the caller sends no more.

        Bounded by the call: the server's pings end it when the caller is no longer there.
        """
        try:
            request = await self._context.read()
        except grpc.aio.BaseError:
            self.leave()
            raise CallerGoneError from None
        if request is _END:
            return None
        # The path of every audio frame: one look at the bytes, no other field.
        audio, self.audio_position = request.audio, request.audio_position
        self.ack = caller_ack(request.ack) if request.HasField("ack") else None
        size = self.size_bytes = len(audio) or request.ByteSize()
        if size > self._message_max_bytes:
            return Refused(self._too_large(size), request.cseq)
        return audio or caller_message(request)

    async def write(self, outgoing: Outgoing, ack: GatewayAck | None = None) -> None:
        """Send one event; returns when the transport has room again. Raises `CallerGoneError`."""
        if self._is_gone or self._is_late:
            raise CallerGoneError
        if self._now() >= self._ends_at:
            self._is_late = True
            raise CallerGoneError
        message = response(outgoing)
        if ack is not None:
            message.ack.cseq, message.ack.input_samples = ack.cseq, ack.input_samples
        self.written_bytes += message.ByteSize()
        try:
            await self._context.write(message)
        except grpc.aio.BaseError:
            self.leave()
            raise CallerGoneError from None

    def _too_large(self, size: int) -> CallerError:
        text = f"the message has {size} bytes; {self._message_max_bytes} are allowed"
        return CallerError(Reason.MESSAGE_TOO_LARGE, text)


def _trace_of(context: Context) -> str:
    """Return what the caller says of its span; whoever makes spans checks it."""
    for name, value in context.invocation_metadata() or ():
        if name == TRACEPARENT and isinstance(value, str) and len(value) <= TRACEPARENT_MAX:
            return value
    return ""
