"""Writes what a session has to say to the stream that carries it, and hears how much of it has arrived."""

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.core import events as out
from gateway.core.intake import Intake
from gateway.runtime.attachment import Attachment
from gateway.runtime.lanes import Lanes
from gateway.runtime.outbox import Outbox
from gateway.runtime.ports import CallerGoneError
from gateway.runtime.session_options import SessionOptions

# How much later than asked for a wait may end before it counts as our own standstill, not as a caller's silence.
LAG_SECONDS: Final = 0.25
# So long before the deadline of its call a caller is told to come with another one.
NOTICE_SECONDS: Final = 10.0
# A heart is looked at so many times a beat.
LOOKS: Final = 4


class Downlink:
    """One session's way to its caller, over all streams of it."""

    def __init__(
        self, outbox: Outbox, lanes: Lanes, intake: Intake | None, issue: Callable[[int], str], options: SessionOptions
    ) -> None:
        """Begin with nothing written. `intake` = what is taken of a resumable caller; `issue` makes it a token."""
        self._outbox = outbox
        self._lanes = lanes
        self._intake = intake
        self._issue = issue
        self._options = options
        self._writing_since: float | None = None
        # The newest token, when it was made, and the newest one that the caller has got.
        self.token_number = self.token_confirmed = 0
        self._token_at = self._now()

    def writing_seconds(self, now: float) -> float:
        """How long the message on its way to the caller has been under way; 0 = none is."""
        return now - self._writing_since if self._writing_since is not None else 0.0

    def issue_token(self) -> str:
        """Return a new token."""
        self.token_number += 1
        self._token_at = self._now()
        return self._issue(self.token_number)

    async def write(self, attachment: Attachment) -> None:
        """Send what the outbox holds, one event at a time. Raises `CallerGoneError`."""
        get, write, outbox, now = self._outbox.get, attachment.stream.write, self._outbox, self._now
        try:
            while True:
                outgoing = await get()
                self._writing_since = now()
                if self._intake is None:
                    await write(outgoing)
                else:
                    await self._write_numbered(attachment, outgoing, self._intake)
                self._writing_since = None
                outbox.sent()
        finally:
            self._writing_since = None

    async def _write_numbered(self, attachment: Attachment, outgoing: out.Outgoing, intake: Intake) -> None:
        """Send an event when the caller has room for it, with what has been taken of its input, if that is due."""
        options = self._options.resume
        await attachment.room(options.window_bytes)
        event, ack = outgoing.event, None
        attachment.written_at = now = self._now()
        taken = self._lanes.taken_cseq
        is_due = attachment.told_samples != intake.samples and now - attachment.told_at >= options.ack_seconds
        if is_due or taken != attachment.told_cseq or isinstance(event, out.Beat):
            ack = out.GatewayAck(taken, intake.samples)
            attachment.told_samples, attachment.told_cseq, attachment.told_at = intake.samples, taken, now
        await attachment.stream.write(outgoing, ack)
        if isinstance(event, out.Token | out.Resumed):
            attachment.token = event.number, attachment.stream.written_bytes

    def acknowledge(self, attachment: Attachment, ack: out.CallerAck) -> None:
        """Hear what the caller has."""
        attachment.acknowledged(ack)
        self._outbox.acknowledge(ack)
        if attachment.token is not None and attachment.read_bytes >= attachment.token[1]:
            self.token_confirmed, attachment.token = max(self.token_confirmed, attachment.token[0]), None

    async def beat(self, attachment: Attachment) -> None:
        """Say something once in a heartbeat. Raises `CallerGoneError` when the caller has missed too many.

        A caller whose call has a deadline is told in time that it comes.
        """
        is_told = False
        beat_seconds = self._options.heartbeat_ms / 1000
        look_seconds = beat_seconds / LOOKS
        while True:
            before = self._now()
            await asyncio.sleep(look_seconds)
            now = self._now()
            if not attachment.is_reading:  # it may have said much that nobody has read yet
                attachment.heard_at = now
            if (lag := now - before - look_seconds) > LAG_SECONDS:  # we may have slept through what it said
                attachment.heard_at += lag
            if now - attachment.heard_at > self._options.resume.beats_max * beat_seconds:
                raise CallerGoneError
            left_seconds = attachment.stream.remaining_seconds()
            if left_seconds <= NOTICE_SECONDS and not is_told:
                is_told = True
                self._lanes.live(out.GoAway("deadline", round(left_seconds * 1000)))
            if now - self._token_at >= self._options.resume.token_seconds:
                self._lanes.live(out.Token(self.issue_token(), self.token_number))
            elif now - attachment.written_at > beat_seconds - look_seconds and not len(self._outbox):
                self._lanes.live(out.Beat())

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
