"""The two pumps of one session.

Nothing runs per frame that is not needed per frame: no log, no metric label, no task, no lock; one
clock reading, plain counters.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, Final

from msgspec.structs import replace

from gateway.core import events as out
from gateway.core.conversation import Conversation
from gateway.core.errors import CallerError, Reason, UpstreamClosedError
from gateway.core.pace import MESSAGE_BYTES_PER_SECOND, MESSAGES_PER_SECOND, Pace
from gateway.core.realtime import AudioDelta, decode, encode, encode_append
from gateway.core.template import Template, check_patch
from gateway.runtime.lanes import Lanes
from gateway.runtime.outbox import Outbox
from gateway.runtime.ports import CallerStream, SessionObserver, Upstream

# One frame in so many is timed.
SAMPLE_EVERY: Final = 64
# A message stays below the 4 MiB that a gRPC client accepts unless told otherwise.
RAW_PART_BYTES: Final = 3 << 20
# How often a session that is finishing looks at what is still due, when nothing happens.
DUE_POLL_SECONDS: Final = 0.25


class Relay:
    """Carries frames between one caller and one line."""

    def __init__(  # noqa: PLR0913, PLR0917 the two ends and what stands between them, each once
        self,
        template: Template,
        stream: CallerStream,
        upstream: Upstream,
        conversation: Conversation,
        lanes: Lanes,
        outbox: Outbox,
        observer: SessionObserver,
    ) -> None:
        """Join the parts; nothing moves before the pumps run."""
        self._template = template
        self._stream = stream
        self._upstream = upstream
        self.conversation = conversation
        self._lanes = lanes
        self._outbox = outbox
        self._observer = observer
        self._now: Callable[[], float] = asyncio.get_running_loop().time
        self.stirred_at = self.heard_at = self._now()
        self._pace = Pace(self.stirred_at)
        self._writing_since: float | None = None
        self._sending_since: float | None = None
        self._moved = asyncio.Event()

    def writing_seconds(self, now: float) -> float:
        """How long the message on its way to the caller has been under way; 0 = none is."""
        return now - self._writing_since if self._writing_since is not None else 0.0

    def sending_seconds(self, now: float) -> float:
        """How long the message on its way to the line has been under way; 0 = none is."""
        return now - self._sending_since if self._sending_since is not None else 0.0

    async def uplink(self) -> out.Bye | None:
        """Carry the caller's input until it ends: by `bye`, which is returned, or by a half-close."""
        read, stream_audio = self._stream.read, self._send_audio
        while True:
            message = await read()
            if type(message) is bytes:
                await stream_audio(message)
            elif message is None or isinstance(message, out.Bye):
                return message
            else:
                await self._control(message)

    async def until_cut(self) -> bool:
        """Listen on after a `bye`; return True when the caller wants no end of it (`bye {now}`)."""
        while (message := await self._stream.read()) is not None:
            self._count_message()
            if isinstance(message, out.Bye) and message.now:
                return True
            if not isinstance(message, out.Bye | out.Ack):
                self._refuse(Reason.INVALID_FRAME, "input after bye", 0)
        return False

    async def finish(self, max_seconds: float) -> None:
        """Let what is due come: the turn that was spoken, the answer to it, its transcript."""
        deadline = self._now() + max_seconds
        silence = self.conversation.input_ended(self._now())
        if silence:
            await self.send(encode_append(silence))
        while self.conversation.is_due(self._now()) and self._now() < deadline:
            self._moved.clear()
            try:
                async with asyncio.timeout(DUE_POLL_SECONDS):
                    await self._moved.wait()
            except TimeoutError:
                continue

    async def downlink(self) -> None:
        """Carry the line's events until it ends. Raises `UpstreamClosedError`: nobody here ended it."""
        receive, conversation, lanes = self._upstream.receive, self.conversation, self._lanes
        tally, now = conversation.tally, self._now
        while True:
            frame = await receive()
            tally.frames_out += 1
            timed = perf_counter() if tally.frames_out % SAMPLE_EVERY == 0 else 0.0
            self.stirred_at = self.heard_at = moment = now()
            try:
                event = decode(frame)
                audio = conversation.audio(event, moment) if type(event) is AudioDelta else None
            except ValueError:
                # No log of the frame: it may hold words.
                text = "the provider sent a message that is not JSON, or audio that is not base64"
                raise UpstreamClosedError(Reason.UPSTREAM_CLOSED, text) from None
            if audio is not None:
                lanes.live(audio)
            elif event is None:
                self._tell_raw(frame)
            else:
                self._tell(conversation.receive(event, moment))
            if timed:
                self._observer.relayed("down", perf_counter() - timed)

    async def write(self) -> None:
        """Send what the outbox holds, one event at a time. Raises `CallerGoneError`."""
        get, write = self._outbox.get, self._stream.write
        while True:
            outgoing = await get()
            self._writing_since = self._now()
            await write(outgoing)
            self._writing_since = None
            self._outbox.sent()

    # Up.

    async def _send_audio(self, audio: bytes) -> None:
        conversation = self.conversation
        tally = conversation.tally
        tally.frames_in += 1
        timed = perf_counter() if tally.frames_in % SAMPLE_EVERY == 0 else 0.0
        conversation.audio_sent(len(audio))
        await self.send(encode_append(audio))
        if timed:
            self._observer.relayed("up", perf_counter() - timed)
        # Too fast: nothing is read for a while, and the transport tells the caller so.
        pause = self._pace.audio(len(audio), conversation.input_bytes_per_second, self.stirred_at)
        if pause:
            await asyncio.sleep(pause)

    async def send(self, frame: bytes) -> None:
        """Send one client event up. Raises `UpstreamClosedError`."""
        self.stirred_at = self._sending_since = self._now()
        await self._upstream.send(frame)
        self._sending_since = None

    def stamped(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a client event of our own with an id by which a refusal finds its way back."""
        return self.conversation.stamp(event, 0)

    async def _control(self, message: out.CallerMessage) -> None:
        self._count_message()
        match message:
            case out.Control():
                await self._pass_on(message)
            case out.Refused():
                self._refuse(message.error.reason, message.error.message, message.cseq)
            case out.OpenRequest() | out.ResumeRequest():
                self._refuse(Reason.ALREADY_OPEN, "this stream has a session already", 0)

    def _count_message(self) -> None:
        if not self._pace.message(self._now(), self._stream.size_bytes):
            text = f"more than {MESSAGES_PER_SECOND:.0f} messages or {MESSAGE_BYTES_PER_SECOND >> 20} MiB a second"
            raise CallerError(Reason.RATE_LIMITED, text)

    async def _pass_on(self, message: out.Control) -> None:
        for event in message.client_events:
            try:
                allowed = self._allowed(event)
            except CallerError as error:
                self._refuse(error.reason, error.message, message.cseq)
                return
            await self.send(encode(self.conversation.stamp(allowed, message.cseq)))

    def _allowed(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Hold a change of the session to what an `open` may change; name the type, which the provider wants."""
        session = event.get("session")
        if event.get("type") != "session.update" or not isinstance(session, Mapping):
            return event
        check_patch(self._template, session)
        return {**event, "session": {"type": self._template.line_class.session_type, **session}}

    def _refuse(self, reason: Reason, text: str, cseq: int) -> None:
        self._observer.refused(reason)
        self._lanes.control(out.ErrorEvent(reason, text, cseq=cseq))

    # Down.

    def _tell_raw(self, frame: bytes) -> None:
        if len(frame) <= RAW_PART_BYTES:
            self._lanes.live(out.Raw(frame))
            return
        pieces = range(0, len(frame), RAW_PART_BYTES)
        for part, start in enumerate(pieces):
            piece = frame[start : start + RAW_PART_BYTES]
            self._lanes.live(out.Raw(piece, part, len(pieces)))

    def _tell(self, events: Sequence[out.SessionEvent]) -> None:
        dropped: dict[str, int] = {}
        for event in events:
            if isinstance(event, out.Interrupted):
                # The flush comes first: what it drops was never sent.
                dropped = dropped or self._outbox.flush_audio()
                self._lanes.control(self._cut(event, dropped))
            elif isinstance(event, out.ControlEvent):
                self._lanes.control(event)
            else:
                self._lanes.live(event)
        for since, seconds in self.conversation.first_audios:
            self._observer.first_audio(self._template.name, since, seconds)
        for seconds in self.conversation.first_audibles:
            self._observer.first_audible(self._template.name, seconds)
        self.conversation.first_audios.clear()
        self.conversation.first_audibles.clear()
        self._moved.set()

    def _cut(self, event: out.Interrupted, dropped: Mapping[str, int]) -> out.Interrupted:
        sample_bytes = self.conversation.turns.output_format.sample_bytes
        unsent = dropped.get(event.item_id, 0) // sample_bytes
        return replace(event, sent_samples=event.sent_samples - unsent)
