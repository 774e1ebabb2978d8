"""A caller with a bare stub, as a program in any language would be one: plain mode, no client of ours."""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from trunkline.v1 import control_pb2 as control
from trunkline.v1 import errors_pb2 as errors
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import session_pb2_grpc

SECONDS: Final = 10.0
HIDDEN: Final = "Internal error from Core"
AUDIO_CHUNK_BYTES: Final = 4800
_Detail = TypeVar("_Detail", bound=Message)


class Refusal(NamedTuple):
    """A status with its details."""

    code: grpc.StatusCode
    text: str
    rich: status_pb2.Status

    def detail(self, kind: type[_Detail]) -> _Detail | None:
        for packed in self.rich.details:
            if packed.Is(kind.DESCRIPTOR):
                found = kind()
                packed.Unpack(found)
                return found
        return None

    @property
    def info(self) -> error_details_pb2.ErrorInfo:
        found = self.detail(error_details_pb2.ErrorInfo)
        assert found is not None, f"no ErrorInfo in {self.code} {self.text!r}"
        return found

    @property
    def reason(self) -> str:
        assert self.info.domain == "trunkline"
        assert self.rich.code == self.code.value[0]
        return str(self.info.reason)

    @property
    def numbers(self) -> errors.PoolNumbers | None:
        return self.detail(errors.PoolNumbers)

    @property
    def retry_seconds(self) -> float | None:
        found = self.detail(error_details_pb2.RetryInfo)
        return None if found is None else found.retry_delay.ToTimedelta().total_seconds()


def refusal(code: grpc.StatusCode, text: str | None, trailing: Iterable[Any] | None) -> Refusal:
    """Take a status apart."""
    rich = status_pb2.Status()
    for key, value in trailing or ():
        if key == "grpc-status-details-bin":
            rich.ParseFromString(value)
    return Refusal(code, text or "", rich)


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """Take the status of an error apart."""
    return refusal(error.code(), error.details(), error.trailing_metadata())


def ended_status(call: Any) -> Refusal:
    """Return the status of a call that has one."""
    return refusal(*(_at_once(each()) for each in (call.code, call.details, call.trailing_metadata)))


def _at_once(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("there is no status yet")


class Caller:
    """One `Converse` call. Every await has a deadline; `seen` holds all that was read."""

    def __init__(self, channel: grpc.aio.Channel, token: str = "", deadline_seconds: float = 60) -> None:
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        stub = session_pb2_grpc.SessionServiceStub(channel)
        self._call = stub.Converse(timeout=deadline_seconds, metadata=metadata)
        # Not `read()`, which gives up what has arrived as soon as a write has failed.
        self._responses = self._call.__aiter__()
        self._noted: list[Refusal] = []
        self._call.add_done_callback(self._note)
        self.seen: list[session.ConverseResponse] = []
        # How long one message may take to come.
        self.patience_seconds = SECONDS

    # Up.

    async def send(self, **fields: Any) -> None:
        """Send one message. A call that was refused meanwhile says so when it is read."""
        async with asyncio.timeout(SECONDS):
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self._call.write(session.ConverseRequest(**fields))

    async def ask(self, *, cseq: int = 0, **fields: Any) -> None:
        """Send one control."""
        await self.send(control=control.Control(**fields), cseq=cseq)

    async def say(self, text: str, item_id: str = "") -> None:
        await self.ask(text=control.TextInput(text=text, item_id=item_id))

    async def answer_please(self, **fields: Any) -> None:
        await self.ask(create_response=control.CreateResponse(**fields))

    async def speak(self, pcm: bytes) -> None:
        for at in range(0, len(pcm), AUDIO_CHUNK_BYTES):
            await self.send(audio=pcm[at : at + AUDIO_CHUNK_BYTES])

    async def bye(self, *, now: bool = False) -> None:
        await self.send(bye=session.Bye(now=now))

    async def half_close(self) -> None:
        async with asyncio.timeout(SECONDS):
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self._call.done_writing()

    def cancel(self) -> None:
        self._call.cancel()

    # Down.

    async def read(self) -> session.ConverseResponse | None:
        """Return the next message; None = the stream has ended, whatever its status."""
        async with asyncio.timeout(self.patience_seconds):
            try:
                message: Any = await anext(self._responses, None)
            except grpc.aio.AioRpcError:
                return None
        if message is None:
            return None
        received: session.ConverseResponse = message
        self.seen.append(received)
        return received

    async def until(self, kind: str) -> Any:
        """Read on until a message of a kind; return its content."""
        while (message := await self.read()) is not None:
            if message.WhichOneof("message") == kind:
                return getattr(message, kind)
        found = [each.WhichOneof("message") for each in self.seen]
        raise AssertionError(f"no {kind} came, but {found} and {await self.status()}")

    async def rest(self) -> Sequence[session.ConverseResponse]:
        """Read to the end of the stream; return all that was ever read."""
        while await self.read() is not None:
            pass
        return self.seen

    async def open(self, **fields: Any) -> session.Opened:
        await self.send(open=session.Open(**fields))
        opened: session.Opened = await self.until("opened")
        return opened

    async def status(self) -> Refusal:
        """Return the gateway's own status, which a failed write may have hidden (grpc/grpc#36066)."""
        async with asyncio.timeout(SECONDS):
            await self._call.code()
            while (found := self._status()).text == HIDDEN:  # noqa: ASYNC110 nobody tells of the second
                await asyncio.sleep(0.005)
        return found

    def _status(self) -> Refusal:
        now = ended_status(self._call)
        return self._noted[0] if self._noted and self._noted[0].text != HIDDEN else now

    def _note(self, call: Any) -> None:
        self._noted.append(ended_status(call))

    async def refused(self, **fields: Any) -> Refusal:
        """Send `open` and read to the end, which comes without `opened`; who waited was told its place."""
        await self.send(open=session.Open(**fields))
        await self.rest()
        assert set(self.kinds()) <= {"queued"}, self.kinds()
        return await self.status()

    # What was seen.

    def kinds(self) -> list[str | None]:
        return [each.WhichOneof("message") for each in self.seen]

    def all(self, kind: str) -> list[Any]:
        return [getattr(each, kind) for each in self.seen if each.WhichOneof("message") == kind]

    def audio(self) -> bytes:
        return b"".join(each.data for each in self.all("audio"))
