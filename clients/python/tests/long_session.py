"""The gateway's side of one resumable session, over all its streams, with faults on request."""

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import grpc
from trunkline.v1.control_pb2 import Control
from trunkline.v1.event_pb2 import CLOSED_REASON_BYE, CLOSED_REASON_BYE_NOW, Closed, GoAway, ItemDone, OutputAudio
from trunkline.v1.session_pb2 import (
    RESUME_MODE_CLAIM,
    RESUME_MODE_PREPARE,
    RESUME_OUTCOME_REATTACHED,
    ConverseRequest,
    ConverseResponse,
    Limits,
    Open,
    Opened,
    Prepared,
    Resume,
    Resumed,
)
from trunkline.v1.types_pb2 import FEATURE_PLANNED_MOVE, FEATURE_RESUMABLE, CallerAck, Feature, GatewayAck

from . import scripts
from .scripted_gateway import Conversation

SAMPLE_BYTES: Final = 2
_Said = ConverseRequest | ConverseResponse | Callable[[], None] | None


@dataclass
class LongSession:
    """Takes each control and each sample once, answers each `text` by an `item_done` of that name.

    `script` plays it in each conversation. What a test says goes out on the newest stream; what is
    numbered is replayed to who resumes.
    """

    heartbeat_ms: int = 1000
    window_bytes: int = 65_536
    resume_window_seconds: int = 5
    owner_address: str = ""
    # Called with each request before it counts; may cut.
    on_request: Callable[[ConverseRequest], None] = lambda request: None
    # Played instead of the answer to the next `resume`, one each.
    answers: list[Callable[[Conversation], None]] = field(default_factory=list)
    # What `resumed` says on top of the usual.
    more: Resumed = field(default_factory=Resumed)
    beats: bool = True
    in_force: bool = True
    moves: bool = True
    # Played instead of the answer to the next PREPARE, one each; and once that is answered.
    before_prepared: list[Callable[[Conversation], None]] = field(default_factory=list)
    after_prepared: list[Callable[[Conversation], None]] = field(default_factory=list)

    controls: list[Control] = field(default_factory=list)
    audio: bytearray = field(default_factory=bytearray)
    byes: list[bool] = field(default_factory=list)
    log: list[ConverseResponse] = field(default_factory=list)
    acks: list[CallerAck] = field(default_factory=list)
    resumes: list[Resume] = field(default_factory=list)
    prepares: list[Resume] = field(default_factory=list)
    # The streams on which `prepared` was said.
    prepared: list[Conversation] = field(default_factory=list)
    # What came twice, and what came too far ahead.
    twice: list[ConverseRequest] = field(default_factory=list)
    ahead: list[ConverseRequest] = field(default_factory=list)
    conversations: list[Conversation] = field(default_factory=list)
    # Of each stream.
    sent_bytes: list[int] = field(default_factory=list)
    half_closed: threading.Event = field(default_factory=threading.Event)
    cseq: int = 0
    token: str = "token 0"

    def __post_init__(self) -> None:
        self._said: queue.Queue[_Said] = queue.Queue()

    @property
    def current(self) -> Conversation:
        return self.conversations[-1]

    def cut(self, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        """End the newest stream with a bare status, as soon as its thread comes to it."""

        def abort() -> None:
            self.current.context.abort(code, "cut")

        self._said.put(abort)

    def refuse(self, reason: str, code: grpc.StatusCode) -> None:
        """End the newest stream with a word of a gateway's."""
        context = self.current.context
        self._said.put(lambda: scripts.refuse(context, reason, code))

    def finish(self) -> None:
        """End the newest stream with status OK, and nothing said."""
        self._said.put(None)

    def say(self, response: ConverseResponse, *, numbered: bool = False) -> None:
        """Send a message on the newest stream, or keep it for the next."""
        if numbered:
            self.log.append(response)
            response.seq = len(self.log)
        self._said.put(response)

    def go_away(self, deadline_ms: int = 30_000) -> None:
        """Say that this gateway drains."""
        self.say(ConverseResponse(go_away=GoAway(reason="draining", deadline_ms=deadline_ms)))

    def speak(self, item_id: str, position: int, data: bytes) -> None:
        self.say(ConverseResponse(audio=OutputAudio(item_id=item_id, position=position, data=data)))

    # The script.

    def script(self, conversation: Conversation) -> Iterator[ConverseResponse]:
        said: queue.Queue[_Said] = queue.Queue()
        first = next(iter(conversation))
        prepared_bytes = 0
        if first.resume.mode == RESUME_MODE_PREPARE:
            prepared = self._prepare(conversation, first.resume)
            yield prepared
            prepared_bytes = prepared.ByteSize()
            first = self._until_claimed(conversation)
        if first.HasField("resume"):
            self.resumes.append(first.resume)
            if self.answers:
                self.answers.pop(0)(conversation)
            if first.resume.token != self.token:
                scripts.refuse(conversation.context, "RESUME_REFUSED", grpc.StatusCode.FAILED_PRECONDITION)
            self._supersede()
        self.conversations.append(conversation)
        self._said = said
        reading = threading.Thread(target=self._read, args=(conversation, said), daemon=True)
        reading.start()
        self.sent_bytes.append(prepared_bytes)
        begin = self._resumed(first.resume) if first.HasField("resume") else self._opened(first.open)
        for response in itertools.chain(begin, self._go_on(said)):
            self.sent_bytes[-1] += response.ByteSize()
            yield response

    def _prepare(self, conversation: Conversation, resume: Resume) -> ConverseResponse:
        self.prepares.append(resume)
        if self.before_prepared:
            self.before_prepared.pop(0)(conversation)
        if resume.token != self.token:
            scripts.refuse(conversation.context, "RESUME_REFUSED", grpc.StatusCode.FAILED_PRECONDITION)
        return ConverseResponse(prepared=Prepared(seq=len(self.log)))

    def _until_claimed(self, conversation: Conversation) -> ConverseRequest:
        self.prepared.append(conversation)
        if self.after_prepared:
            self.after_prepared.pop(0)(conversation)
        # A cancelled call ends its requests by an error, which ends the script.
        claim = next(iter(conversation))
        assert claim.resume.mode == RESUME_MODE_CLAIM, "what is prepared may only be claimed"
        return claim

    def _supersede(self) -> None:
        """End the stream that has the session, if there is one."""
        if not self.current.over.is_set():
            self.refuse("SUPERSEDED", grpc.StatusCode.ABORTED)

    def _opened(self, asked: Open) -> Iterator[ConverseResponse]:
        self.in_force = self.in_force and FEATURE_RESUMABLE in asked.features
        opened = Opened(
            session_id="s1",
            features=self._granted(),
            resume_token=self.token,
            heartbeat_ms=self.heartbeat_ms,
            window_bytes=self.window_bytes,
            owner_address=self.owner_address,
            limits=Limits(message_max_bytes=65_536, resume_window_seconds=self.resume_window_seconds),
        )
        self.log = [ConverseResponse(opened=opened, seq=1)]
        yield self.log[0]

    def _granted(self) -> list[Feature.ValueType]:
        if not self.in_force:
            return []
        return [FEATURE_RESUMABLE, FEATURE_PLANNED_MOVE] if self.moves else [FEATURE_RESUMABLE]

    def _resumed(self, resume: Resume) -> Iterator[ConverseResponse]:
        self.token = f"token {len(self.resumes)}"
        resumed = Resumed(
            session_id="s1",
            outcome=RESUME_OUTCOME_REATTACHED,
            replay_to=len(self.log),
            next_cseq=self.cseq + 1,
            input_position_wanted=len(self.audio) // SAMPLE_BYTES,
            resume_token=self.token,
            owner_address=self.owner_address,
        )
        resumed.MergeFrom(self.more)
        yield ConverseResponse(resumed=resumed)
        yield from self.log[resume.last_seq :]

    def _go_on(self, said: queue.Queue[_Said]) -> Iterator[ConverseResponse]:
        beat_at = time.monotonic()
        while True:
            beat_at += self.heartbeat_ms / 1000
            for message in _until(beat_at, said):
                if message is None:
                    return
                if callable(message):
                    message()
                elif isinstance(message, ConverseResponse):
                    yield message
                else:
                    yield from self._answered(message)
                    if self.byes and not self.in_force:
                        return
            if self.beats:
                yield ConverseResponse(ack=self._ack())

    def _answered(self, request: ConverseRequest) -> Iterator[ConverseResponse]:
        self.on_request(request)
        yield from self._taken(request)
        if self.byes and request.HasField("bye"):
            yield self._closed(now=request.bye.now)

    def _read(self, conversation: Conversation, said: queue.Queue[_Said]) -> None:
        # A cancelled call ends its requests by an error.
        with suppress(grpc.RpcError):
            for request in conversation:
                if request.HasField("ack"):
                    self.acks.append(request.ack)
                said.put(request)
            self.half_closed.set()
        said.put(None)

    def _taken(self, request: ConverseRequest) -> Iterator[ConverseResponse]:
        if request.HasField("audio"):
            self._take_audio(request)
            if request.audio_position % 4 == 0:
                yield ConverseResponse(ack=self._ack())
        elif request.cseq:
            if request.cseq != self.cseq + 1:
                (self.twice if request.cseq <= self.cseq else self.ahead).append(request)
                return
            self.cseq = request.cseq
            if request.HasField("bye"):
                self.byes.append(request.bye.now)
                return
            self.controls.append(request.control)
            item = ConverseResponse(item_done=ItemDone(item_id=request.control.text.text), ack=self._ack())
            self.log.append(item)
            item.seq = len(self.log)
            yield item

    def _take_audio(self, request: ConverseRequest) -> None:
        begin = request.audio_position * SAMPLE_BYTES
        if begin > len(self.audio):
            self.ahead.append(request)
        elif begin < len(self.audio):
            self.twice.append(request)
        self.audio[begin:] = request.audio

    def _ack(self) -> GatewayAck:
        return GatewayAck(cseq=self.cseq, input_samples=len(self.audio) // SAMPLE_BYTES)

    def _closed(self, *, now: bool) -> ConverseResponse:
        reason = CLOSED_REASON_BYE_NOW if now else CLOSED_REASON_BYE
        response = ConverseResponse(closed=Closed(reason=reason), seq=len(self.log) + 1)
        self.log.append(response)
        return response

    def texts(self) -> list[str]:
        return [control.text.text for control in self.controls]


def _until(at: float, said: queue.Queue[_Said]) -> Iterator[_Said]:
    while (left := at - time.monotonic()) > 0:
        with suppress(queue.Empty):
            yield said.get(timeout=left)
