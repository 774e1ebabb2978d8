"""Reads what a session's caller sends on the stream that carries it: each control once, each sample once."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

from msgspec import structs

from gateway.core import events as out
from gateway.core.errors import CallerError, Reason
from gateway.core.intake import Intake
from gateway.core.record import Later, Note, Retold
from gateway.runtime.attachment import Attachment
from gateway.runtime.lanes import Lanes
from gateway.runtime.ports import CallerGoneError
from gateway.runtime.relay import Relay


class Uplink:
    """One session's way from its caller, over all streams of it."""

    def __init__(self, relay: Relay, lanes: Lanes, intake: Intake | None) -> None:
        """Begin with nothing read, and read nothing before `listen`. `intake` = the caller is a resumable one."""
        self._relay = relay
        self._lanes = lanes
        self._intake = intake
        self._listens = asyncio.Event()
        # Who takes a message now, and who does that for a stream that is lost already.
        self._taker: asyncio.Task[None] | None = None
        self._leftover: asyncio.Task[None] | None = None
        # How the caller ended its input; None = by a half-close. And whether it wants no end of it.
        self.bye: asyncio.Future[out.Bye | None] = asyncio.get_running_loop().create_future()
        self.cut = asyncio.Event()
        # What an older owner has left to be asked for, once the audio before it has come again.
        self._later: deque[Later] = deque()

    def go_on(self, retold: Retold) -> None:
        """Begin where an older owner has left off."""
        self._later.extend(retold.later)
        if retold.bye:
            self.bye.set_result(out.Bye())

    def listen(self) -> None:
        """Read from now on: what goes up first has gone."""
        self._listens.set()

    async def read(self, attachment: Attachment) -> None:
        """Take a plain caller's input until it ends: by `bye`, or by a half-close. Raises `CallerGoneError`."""
        await self._listens.wait()
        relay, stream = self._relay, attachment.stream
        read, take_audio = stream.read, relay.audio
        while True:
            message = await read()
            if type(message) is bytes:
                await take_audio(message)
            elif message is None or isinstance(message, out.Bye):
                break
            else:
                relay.count_message(stream.size_bytes)
                await relay.take(message)
        self.bye.set_result(message)
        while message is not None and (message := await read()) is not None:
            relay.count_message(stream.size_bytes)
            self._read_on(message)

    async def read_numbered(
        self, attachment: Attachment, intake: Intake, acknowledge: Callable[[Attachment, out.CallerAck], None]
    ) -> None:
        """Take a resumable caller's input. Raises `CallerGoneError` at its end: without `bye` it may come back."""
        await self._listens.wait()
        if self._leftover is not None:
            await asyncio.wait({self._leftover})
            self._leftover = None
        stream, now = attachment.stream, asyncio.get_running_loop().time
        await self._ask_later(intake)
        while not attachment.is_superseded.is_set():
            attachment.is_reading = True
            message = await stream.read()
            attachment.is_reading, attachment.heard_at = False, now()
            if message is None:
                break
            if stream.ack is not None:
                acknowledge(attachment, stream.ack)
            self._taker = asyncio.current_task()
            try:
                await self._take(message, attachment, intake)
            finally:
                self._taker = None
        raise CallerGoneError

    def leave(self, reader: "asyncio.Task[None]") -> bool:
        """Whether a reader is to be left to itself, at the end of its stream: what it takes, it takes as a whole."""
        if self._taker is not reader or reader.done():
            return False
        self._leftover = reader
        return True

    def stop(self) -> None:
        """Wait for nobody any more."""
        if self._leftover is not None:
            self._leftover.cancel()

    async def _take(self, message: out.CallerMessage, attachment: Attachment, intake: Intake) -> None:
        """Take what is new of a message."""
        relay = self._relay
        if type(message) is bytes:
            new = intake.audio(message, attachment.stream.audio_position)
            if self.bye.done():
                self._read_on(message)
            elif new:
                if self._later:
                    new = await self._ask_later(intake, new)
                if new:
                    await relay.audio(new)
            return
        if isinstance(message, out.Ack):
            return
        relay.count_message(attachment.stream.size_bytes)
        if isinstance(message, out.Control | out.Bye) or (isinstance(message, out.Refused) and message.cseq):
            await self._take_numbered(message, intake)
        else:
            await relay.take(message)

    async def _take_numbered(self, message: out.Control | out.Bye | out.Refused, intake: Intake) -> None:
        try:
            if not intake.takes(message.cseq):
                return
        except CallerError as error:
            self._relay.refuse(error.reason, error.message, message.cseq)
            return
        if self.bye.done():
            self._taken(message.cseq, intake.samples, Note())
            self._read_on(message)
        elif isinstance(message, out.Bye):
            self._taken(message.cseq, intake.samples, Note(bye=True))
            self.bye.set_result(message)
        else:
            await self._relay.take(message, partial(self._taken, message.cseq, intake.samples))

    async def _ask_later(self, intake: Intake, audio: bytes = b"") -> bytes:
        """Ask for what was left where its time comes within the piece that came last; return the rest of the piece."""
        while self._later and intake.samples >= self._later[0].at:
            before, audio = intake.split(audio, self._later[0].at)
            if before:
                await self._relay.audio(before)
            await self._relay.ask(self._later.popleft().events)
        return audio

    def _taken(self, cseq: int, samples: int, note: Note) -> None:
        """Enter a control into the log, in the moment in which it takes effect; so many samples came before it."""
        kinds = {event["type"] for event in note.requests}
        if "input_audio_buffer.commit" in kinds:
            note = structs.replace(note, turn_ends_at=samples)
        elif "input_audio_buffer.clear" in kinds:
            note = structs.replace(note, input_samples=samples)
        self._lanes.control(out.ControlTaken(cseq), note)

    def _read_on(self, message: out.CallerMessage) -> None:
        """Hear what comes after `bye`: nothing but `bye {now}` has a meaning."""
        if isinstance(message, out.Bye):
            if message.now:
                self.cut.set()
        elif not isinstance(message, out.Ack):
            self._relay.refuse(Reason.INVALID_FRAME, "input after bye", getattr(message, "cseq", 0))
