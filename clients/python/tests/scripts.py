"""What the gateway of the tests can be told to do, as generators over one `Conversation`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as PackedMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from trunkline.v1.errors_pb2 import ERROR_REASON_INVALID_FRAME, Error, PoolNumbers
from trunkline.v1.event_pb2 import (
    CLOSED_REASON_BYE,
    CLOSED_REASON_BYE_NOW,
    CLOSED_REASON_IDLE,
    Closed,
    ItemDone,
    OutputAudio,
    Queued,
    ResponseCreated,
    ResponseDone,
    TranscriptDelta,
)
from trunkline.v1.session_pb2 import ConverseRequest, ConverseResponse, Limits, Open, Opened

if TYPE_CHECKING:
    from .scripted_gateway import Conversation

Answers = Iterator[ConverseResponse]

NUMBERS = PoolNumbers(scope="pool", pool="default", total=16, leased=16, waiting=50)


def opened(message: Open | None = None) -> ConverseResponse:
    correlation_id = "" if message is None else message.correlation_id
    limits = Limits(message_max_bytes=65_536)
    return ConverseResponse(opened=Opened(session_id="s1", correlation_id=correlation_id, limits=limits), seq=1)


def goodbye(request: ConverseRequest, seq: int) -> ConverseResponse:
    reason = CLOSED_REASON_BYE_NOW if request.bye.now else CLOSED_REASON_BYE
    return ConverseResponse(closed=Closed(reason=reason), seq=seq)


def text_turn(conversation: "Conversation") -> Answers:
    """The contract's first example: each `create_response` is answered by three pieces of audio."""
    seq = 1
    for request in conversation:
        if request.HasField("open"):
            yield opened(request.open)
        elif request.HasField("bye"):
            yield goodbye(request, seq + 1)
            return
        elif request.control.HasField("create_response"):
            yield from _answer(seq)
            seq += 2


def _answer(seq: int) -> Answers:
    yield ConverseResponse(response_created=ResponseCreated(response_id="r1"), after_seq=seq)
    yield ConverseResponse(transcript_delta=TranscriptDelta(delta="hi"), after_seq=seq)
    for position in range(3):
        yield ConverseResponse(audio=OutputAudio(data=bytes([position]), position=position), after_seq=seq)
    yield ConverseResponse(item_done=ItemDone(item_id="i1", type="message"), seq=seq + 1)
    yield ConverseResponse(response_done=ResponseDone(response_id="r1"), seq=seq + 2)


def echo(conversation: "Conversation") -> Answers:
    """Audio comes back as it came; bye without `now` is answered after all of it."""
    for request in conversation:
        if request.HasField("open"):
            yield opened()
        elif request.HasField("bye"):
            yield goodbye(request, 2)
            return
        elif request.HasField("audio"):
            yield ConverseResponse(audio=OutputAudio(data=request.audio))


def flood(conversation: "Conversation") -> Answers:
    """Sends 400 pieces of 4 KiB at once, whether anyone reads or not; then waits for bye."""
    requests = iter(conversation)
    next(requests)
    yield opened()
    for position in range(400):
        yield ConverseResponse(audio=OutputAudio(data=bytes(4096), position=position))
    for request in requests:
        if request.HasField("bye"):
            yield goodbye(request, 2)
            return


def queued_first(conversation: "Conversation") -> Answers:
    """Two places in the queue, an empty frame, then open."""
    requests = iter(conversation)
    next(requests)
    yield ConverseResponse(queued=Queued(position=3))
    yield ConverseResponse()
    yield ConverseResponse(queued=Queued(position=1))
    yield opened()
    for request in requests:
        if request.HasField("bye"):
            yield goodbye(request, 2)
            return


def full(conversation: "Conversation") -> Answers:
    """Refuses with everything a refusal can carry."""
    next(iter(conversation))
    refuse(conversation.context, "QUEUE_FULL", grpc.StatusCode.RESOURCE_EXHAUSTED, NUMBERS, 0.25)
    yield opened()


def refuses_at_once(conversation: "Conversation") -> Answers:
    """Refuses without reading anything."""
    refuse(conversation.context, "UNAUTHENTICATED", grpc.StatusCode.UNAUTHENTICATED)
    yield opened()


def fails_midway(conversation: "Conversation") -> Answers:
    """Opens, answers the first audio, ends with a typed status at the second."""
    requests = iter(conversation)
    next(requests)
    yield opened()
    next(requests)
    yield ConverseResponse(audio=OutputAudio(data=b"last"))
    next(requests)
    refuse(conversation.context, "UPSTREAM_CLOSED", grpc.StatusCode.UNAVAILABLE)


def fails_behind_events(conversation: "Conversation") -> Answers:
    """Sends more than the client holds unread, then ends with a typed status."""
    requests = iter(conversation)
    next(requests)
    yield opened()
    next(requests)
    for position in range(5):
        yield ConverseResponse(audio=OutputAudio(data=bytes(4096), position=position))
    refuse(conversation.context, "UPSTREAM_CLOSED", grpc.StatusCode.UNAVAILABLE)


def last_words(conversation: "Conversation") -> Answers:
    """After the third message says 20 things and `closed`, and ends while the caller goes on."""
    requests = iter(conversation)
    next(requests)
    yield opened()
    for _ in range(3):
        next(requests)
    for position in range(20):
        yield ConverseResponse(audio=OutputAudio(data=bytes(1000), position=position))
    yield ConverseResponse(closed=Closed(reason=CLOSED_REASON_IDLE), seq=2)


def silent(conversation: "Conversation") -> Answers:
    """Reads `open` and never answers."""
    next(iter(conversation))
    conversation.over.wait(10)
    yield from ()


def deaf(conversation: "Conversation") -> Answers:
    """Opens, then neither reads nor writes."""
    next(iter(conversation))
    yield opened()
    conversation.over.wait(10)


def stubborn(conversation: "Conversation") -> Answers:
    """Opens, reads everything, says `closed` at bye, and never ends the stream."""
    for request in conversation:
        if request.HasField("open"):
            yield opened()
        elif request.HasField("bye"):
            yield goodbye(request, 2)
            conversation.over.wait(10)


def ignores_bye(conversation: "Conversation") -> Answers:
    """Opens, reads everything, never says anything again."""
    for request in conversation:
        if request.HasField("open"):
            yield opened()


def ends_unannounced(conversation: "Conversation") -> Answers:
    """Opens and ends with status OK, without `closed`."""
    next(iter(conversation))
    yield opened()


def idle_end(conversation: "Conversation") -> Answers:
    """Opens and closes in order, unasked."""
    next(iter(conversation))
    yield opened()
    yield ConverseResponse(closed=Closed(reason=CLOSED_REASON_IDLE), seq=2)


def complains(conversation: "Conversation") -> Answers:
    """Answers each control by an `error` with its number; the session goes on."""
    seq = 1
    for request in conversation:
        seq += 1
        if request.HasField("open"):
            yield opened()
        elif request.HasField("bye"):
            yield goodbye(request, seq)
            return
        else:
            error = Error(reason=ERROR_REASON_INVALID_FRAME, cseq=request.cseq)
            yield ConverseResponse(error=error, seq=seq)


def speaks_first(conversation: "Conversation") -> Answers:
    """Breaks the contract: audio before `opened`."""
    next(iter(conversation))
    yield ConverseResponse(audio=OutputAudio(data=b"x"))
    conversation.over.wait(10)


def counts_backwards(conversation: "Conversation") -> Answers:
    """Breaks the contract: a `seq` that does not rise."""
    next(iter(conversation))
    yield opened()
    yield ConverseResponse(item_done=ItemDone(item_id="i1"), seq=1)
    conversation.over.wait(10)


def refuse(
    context: grpc.ServicerContext,
    reason: str,
    code: grpc.StatusCode,
    numbers: PoolNumbers | None = None,
    retry_after_seconds: float | None = None,
) -> NoReturn:
    """End the call as the gateway does."""
    details: list[Message] = [ErrorInfo(reason=reason, domain="trunkline")]
    if retry_after_seconds is not None:
        delay = Duration()
        delay.FromNanoseconds(int(retry_after_seconds * 1e9))
        details.append(RetryInfo(retry_delay=delay))
    if numbers is not None:
        details.append(numbers)
    context.abort_with_status(rpc_status.to_status(rich_status(code, "a sentence", details)))
    raise AssertionError


def rich_status(code: grpc.StatusCode, message: str, details: list[Message]) -> Status:
    packed = []
    for detail in details:
        any_message = PackedMessage()
        any_message.Pack(detail)
        packed.append(any_message)
    number: int = code.value[0]
    return Status(code=number, message=message, details=packed)
