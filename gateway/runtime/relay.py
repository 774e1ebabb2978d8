"""What one session's caller and its line tell each other. The line may be replaced under it, and so may the stream.

Nothing runs per frame that is not needed per frame: no log, no metric label, no task, no lock; one
clock reading, plain counters.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from time import perf_counter
from typing import Any, Final

from gateway.core import event_ids
from gateway.core import events as out
from gateway.core.aside import Aside
from gateway.core.continuity import Continuity
from gateway.core.conversation import Conversation
from gateway.core.errors import CallerError, Reason, UpstreamClosedError
from gateway.core.intake import Intake
from gateway.core.pace import MESSAGE_BYTES_PER_SECOND, MESSAGES_PER_SECOND, Pace
from gateway.core.realtime import AudioDelta, decode, encode, encode_append, session_update
from gateway.core.record import Note
from gateway.core.replay import Ahead
from gateway.core.restoration import Restoration
from gateway.core.template import Template, check_patch
from gateway.runtime.lanes import Lanes
from gateway.runtime.late import Late
from gateway.runtime.observers import SessionObserver
from gateway.runtime.outbox import Outbox
from gateway.runtime.ports import Upstream
from gateway.runtime.teller import Teller

# One frame in so many is timed.
SAMPLE_EVERY: Final = 64
# How often a session that is finishing looks at what is still due, when nothing happens.
DUE_POLL_SECONDS: Final = 0.25
# What a caller keeps of its speech while it has no stream.
CATCH_UP_SECONDS: Final = 10.0
APPEND: Final = "input_audio_buffer.append"


class Relay:
    """Carries frames up to one line, and down from it into the outbox."""

    def __init__(  # noqa: PLR0913, PLR0917 what stands between caller and line, each once
        self,
        template: Template,
        conversation: Conversation,
        continuity: Continuity,
        lanes: Lanes,
        outbox: Outbox,
        observer: SessionObserver,
        intake: Intake | None = None,
    ) -> None:
        """Join the parts; nothing moves before a line is attached."""
        self._template = template
        # None = there is no line now, or it is being told what was said before.
        self._upstream: Upstream | None = None
        self._late = Late(is_over=True)
        self.conversation = conversation
        self.continuity = continuity
        self._lanes = lanes
        self._observer = observer
        self._teller = Teller(template.name, conversation, continuity, lanes, outbox, observer, intake)
        self.slowness = self._teller.slowness
        # What the present line was asked for by the gateway itself.
        self.aside = Aside()
        self._now: Callable[[], float] = asyncio.get_running_loop().time
        self.stirred_at = self.heard_at = self._now()
        self._pace = Pace(self.stirred_at)
        self._sending_since: float | None = None
        self._heard_before = 0
        self._moved = asyncio.Event()

    @property
    def has_line(self) -> bool:
        """Whether a line listens."""
        return self._upstream is not None

    @property
    def has_heard(self) -> bool:
        """Whether the line that was attached last has said anything."""
        return self.conversation.tally.frames_out > self._heard_before

    @property
    def session_type(self) -> str:
        """What the provider wants to hear of in every change of a session."""
        return self._template.line_class.session_type

    def sending_seconds(self, now: float) -> float:
        """How long the message on its way to the line has been under way; 0 = none is."""
        return now - self._sending_since if self._sending_since is not None else 0.0

    async def finish(self, max_seconds: float) -> None:
        """Let what is due come: the turn that was spoken, the answer to it, its transcript."""
        deadline = self._now() + max_seconds
        silence = self.conversation.input_ended(self._now())
        if silence:
            self.continuity.audio(silence)
            await self.send(encode_append(silence))
        while self._is_due() and self._now() < deadline:
            self._moved.clear()
            try:
                async with asyncio.timeout(DUE_POLL_SECONDS):
                    await self._moved.wait()
            except TimeoutError:
                continue

    def _is_due(self) -> bool:
        """Whether the caller is still to hear of something. Without a line, what is owed is asked of the next one."""
        is_unconfirmed = self.continuity.is_unconfirmed or not self._teller.restoration.is_over
        return self._upstream is None or is_unconfirmed or self.conversation.is_due(self._now())

    # Its line.

    def attach(self, upstream: Upstream) -> None:
        """Send what comes from the caller up this line, from now on."""
        self._upstream, self._late.is_over = upstream, True
        self.slowness.begin()
        self.heard_at, self._heard_before = self._now(), self.conversation.tally.frames_out

    def detach(self, cause: out.InterruptionCause = out.InterruptionCause.UPSTREAM_LOST) -> None:
        """The line is gone: tell the caller what that has cut off, and remember what comes meanwhile."""
        self._upstream, self._sending_since, self._late.is_over = None, None, True
        self._teller.line_lost(self._now(), cause)
        self._moved.set()

    async def restore(
        self, upstream: Upstream, *, configured_as: Mapping[str, Any] | None, ahead: Ahead | None = None
    ) -> tuple[str, ...]:
        """Tell a fresh line what was said, then attach it; return the items that it could not be told.

        `configured_as` = what the line had on it when it was leased; `ahead` = what it was told since. Raises
        `UpstreamClosedError`, also where that is not what was said.
        """
        told, events = self.continuity.replay()
        self.conversation.asked_again(self._now(), told.configuration)
        is_configured = configured_as == told.configuration and not told.updates
        frames = list[bytes]()
        if not is_configured:
            self.continuity.configures(event_ids.CONFIG)
            if ahead is None:
                frames.append(session_update(told.configuration, event_ids.CONFIG))
        is_stale = ahead is not None and not ahead.is_beginning_of(told)
        known = () if ahead is None or is_stale else ahead.events()
        # The caller's audio was counted and remembered when it came.
        rest = [event if event["type"] == APPEND else self._again(event) for event in events[len(known) :]]
        frames += map(encode, rest)
        stamped = (*known, *rest)
        # What the caller has asked for and was not answered is answered by the fresh line, or here.
        is_silent = not is_configured and not told.updates
        self._teller.restoration = Restoration(stamped, is_configured=not is_silent, unconfirmed=told.unconfirmed)
        for confirmed in told.confirmed:
            self._lanes.control(confirmed)
        if is_stale:
            raise UpstreamClosedError(Reason.UPSTREAM_CLOSED, "what the line was told has changed since")
        self._late = Late()
        for frame in frames:
            await upstream.send(frame)
        await self._late.send(upstream)
        self.attach(upstream)
        self.continuity.restored(told.unrestored)
        return told.unrestored

    async def downlink(self, upstream: Upstream) -> None:
        """Carry a line's events until it ends. Raises `UpstreamClosedError`: nobody here ended it."""
        receive, conversation, lanes = upstream.receive, self.conversation, self._lanes
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
                if not self.aside.takes_raw(frame):
                    self._teller.raw(frame)
            elif not self.aside.takes(event):
                self._teller.tell(conversation.receive(event, moment))
                self._moved.set()
            if timed:
                self._observer.relayed("down", perf_counter() - timed)

    # Up.

    async def audio(self, audio: bytes) -> None:
        """Carry a piece of the caller's audio up."""
        conversation = self.conversation
        tally = conversation.tally
        tally.frames_in += 1
        timed = perf_counter() if tally.frames_in % SAMPLE_EVERY == 0 else 0.0
        conversation.audio_sent(len(audio))
        self.continuity.audio(audio)
        await self.send(encode_append(audio))
        if timed:
            self._observer.relayed("up", perf_counter() - timed)
        # Too fast: nothing is read for a while, and the transport tells the caller so.
        pause = self._pace.audio(len(audio), conversation.input_bytes_per_second, self.stirred_at)
        if pause:
            await asyncio.sleep(pause)

    async def send(self, frame: bytes) -> None:
        """Send one client event up. Without a line nothing is lost: what counts is remembered for the next one."""
        self.stirred_at = self._now()
        upstream = self._upstream
        if upstream is None:
            await self._late.add(frame)
            return
        self._sending_since = self.stirred_at
        with suppress(UpstreamClosedError):  # who listens to the line learns why
            await upstream.send(frame)
        self._sending_since = None

    async def ask(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Send client events that nobody waits for by their number."""
        for event in events:
            await self.send(encode(self.stamped(event)))

    async def configure(self, session: Mapping[str, Any], event_id: str) -> None:
        """Send a configuration that is the gateway's own."""
        self.continuity.configures(event_id)
        await self.send(session_update(session, event_id))

    def stamped(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a client event of our own with an id by which a refusal finds its way back; it is remembered."""
        return self._remembered(event, 0)

    def _again(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask a fresh line for something; a refusal finds its way back to the control that asked first."""
        return self._remembered(event, event_ids.cseq_of(str(event.get("event_id", ""))))

    def _remembered(self, event: Mapping[str, Any], cseq: int) -> Mapping[str, Any]:
        stamped = self.conversation.stamp(self.continuity.named(event), cseq)
        self.continuity.sent(stamped)
        return stamped

    async def take(self, message: out.CallerMessage, taken: Callable[[Note], None] | None = None) -> None:
        """Do what a message asks for that is no audio; `taken` is told what goes up, before it does."""
        match message:
            case out.Control():
                frames, note = self._taken(message)
                if taken is not None:
                    taken(note)
                for frame in frames:
                    await self.send(frame)
                return
            case out.Refused():
                self.refuse(message.error.reason, message.error.message, message.cseq)
            case out.OpenRequest() | out.ResumeRequest():
                self.refuse(Reason.ALREADY_OPEN, "this stream has a session already", 0)
        if taken is not None:
            taken(Note())

    def caller_back(self) -> None:
        """Let the caller send what it has said meanwhile."""
        self._pace.catch_up(CATCH_UP_SECONDS)

    def count_message(self, size_bytes: int) -> None:
        """Hold messages that are no audio to their pace. Raises `CallerError` RATE_LIMITED."""
        if not self._pace.message(self._now(), size_bytes):
            text = f"more than {MESSAGES_PER_SECOND:.0f} messages or {MESSAGE_BYTES_PER_SECOND >> 20} MiB a second"
            raise CallerError(Reason.RATE_LIMITED, text)

    def _taken(self, message: out.Control) -> tuple[list[bytes], Note]:
        """Return what of a control goes up, as frames and for the log."""
        frames, requests = list[bytes](), list[Mapping[str, Any]]()
        try:
            for event in message.client_events:
                allowed = self._allowed(event)
                if (truncated := self.continuity.truncated_here(allowed)) is not None:
                    self._lanes.control(truncated)
                    continue
                stamped = self._remembered(allowed, message.cseq)
                frames.append(encode(stamped))
                if stamped["type"] != APPEND:
                    requests.append(stamped)
        except CallerError as error:
            self.refuse(error.reason, error.message, message.cseq)
        return frames, Note(tuple(requests))

    def _allowed(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Hold a change of the session to what an `open` may change; name the type, which the provider wants."""
        session = event.get("session")
        if event.get("type") != "session.update" or not isinstance(session, Mapping):
            return event
        check_patch(self._template, session)
        return {**event, "session": {"type": self._template.line_class.session_type, **session}}

    def refuse(self, reason: Reason, text: str, cseq: int) -> None:
        """Tell the caller that something is not done; the session goes on."""
        self._observer.refused(reason)
        self._lanes.control(out.ErrorEvent(reason, text, cseq=cseq))
