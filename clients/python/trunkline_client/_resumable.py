"""One session that outlives its streams, as its caller sees it: what is sent again, acknowledged, dropped.

Pure: time is an argument, in seconds that only rise. Both shells ask it for the next message
(`next_request`), when to ask again (`due_at`), and what a lost stream means.
"""

import math
from typing import Final

from trunkline.v1.control_pb2 import Control
from trunkline.v1.event_pb2 import Queued
from trunkline.v1.session_pb2 import (
    RESUME_MODE_CLAIM,
    ConverseRequest,
    ConverseResponse,
    Open,
    Opened,
    Resume,
    Resumed,
    ResumeMode,
)
from trunkline.v1.types_pb2 import FEATURE_RESUMABLE, AudioFormat, CallerAck

from trunkline_client._acks import Acks
from trunkline_client._numbers import Numbers
from trunkline_client._output import Output
from trunkline_client._requests import PROTOCOL_REVISION
from trunkline_client._resume import Attempts, is_lost, may_go_on
from trunkline_client._session import SessionCore, State
from trunkline_client._silence import Silence
from trunkline_client._unacked import Unacked
from trunkline_client.audio import bytes_per_second, rate_hz
from trunkline_client.errors import TrunklineError, refusal
from trunkline_client.events import Event
from trunkline_client.options import ConnectionOptions

# Why a gateway goes away that will take nothing more.
_DRAINING: Final = "draining"
# How long a clock may rest that has nothing to do.
_REST_SECONDS: Final = 60.0


class ResumableCore(SessionCore):
    """The machine. Where the gateway does not resume (`in_force`), it numbers and keeps nothing."""

    def __init__(self, options: ConnectionOptions, unsent_max_bytes: int) -> None:
        """Begin before `open`; a send waits while `unsent_max_bytes` wait for the stream."""
        super().__init__()
        self._options = options
        self._unsent_max_bytes = unsent_max_bytes
        self.in_force = False
        self.attached = False
        self.resumed_count = 0
        # Whether all was said, so that the stream may be half-closed.
        self.has_finished = False
        self._numbers = Numbers()
        self._token = ""
        self._owner = ""
        # Half a sample that waits for its other half.
        self._odd = b""
        self._sample_bytes = 1
        # What was read of a stream before it was attached.
        self._read_bytes = 0
        self._set_up(Opened())

    def _set_up(self, opened: Opened) -> None:
        """Set up what depends on the gateway's answer."""
        self._sample_bytes = _sample_bytes(opened.input_format)
        kept = round(self._options.input_kept_seconds * rate_hz(opened.input_format))
        self._unacked = Unacked(self._sample_bytes, kept)
        self._output = Output(_sample_bytes(opened.output_format))
        self._heartbeat_seconds = opened.heartbeat_ms / 1000 or math.inf
        self._window_bytes = opened.window_bytes
        self._resume_window_seconds = opened.limits.resume_window_seconds

    # What is sent.

    @property
    def has_room(self) -> bool:
        """Whether a send need not wait. Without a stream none does: it is kept, or refused."""
        return not self.attached or not (self._unacked.is_full or self._unacked.unsent_bytes >= self._unsent_max_bytes)

    def audio_request(self, data: bytes) -> ConverseRequest:
        """Add audio to what is sent; what is returned says where it begins. Raises as the plain one does."""
        self._check_input(len(data))
        if not self.in_force:
            request = ConverseRequest(audio=data)
            self._unacked.add_audio(request)
            return request
        if self._odd:
            data = self._odd + data
        whole_bytes = len(data) - len(data) % self._sample_bytes
        data, self._odd = data[:whole_bytes], data[whole_bytes:]
        request = ConverseRequest(audio=data, audio_position=self._unacked.position)
        if data:
            self._unacked.add_audio(request)
        return request

    def control_request(self, control: Control) -> ConverseRequest:
        """Add a numbered control. Raises OVERLOADED where no more can be kept, else as the plain one does."""
        if self.state is State.OPEN and self._unacked.is_full:
            raise refusal("OVERLOADED", "too many controls wait for a gateway to acknowledge them")
        request = super().control_request(control)
        self._unacked.add_control(request)
        return request

    def bye_request(self, *, now: bool) -> ConverseRequest:
        """Add the end of the input. Raises as the plain one does."""
        request = super().bye_request(now=now)
        self._unacked.add_control(request)
        return request

    def next_request(self, now: float) -> ConverseRequest | None:
        """Return what goes now on the attached stream; None = nothing."""
        if not self.attached or self.has_finished:
            return None
        if self.state is State.CLOSED:
            self.has_finished = True
            return self._ack_alone(now) if self.in_force else None
        entry = self._unacked.take()
        if entry is None:
            return self._ack_alone(now) if self.in_force and now >= self._acks.due_at() else None
        request = entry.request
        if not self.in_force:
            self._unacked.acknowledge(request.cseq, entry.samples_end)
        elif self._acks.rides(now, on_audio=request.HasField("audio")):
            # What is kept must not carry an old acknowledgement to the next stream.
            kept, request = request, ConverseRequest(ack=self._ack(now))
            request.MergeFrom(kept)
        else:
            self._acks.note_sent(now)
        return request

    def _ack_alone(self, now: float) -> ConverseRequest:
        return ConverseRequest(ack=self._ack(now))

    def _ack(self, now: float) -> CallerAck:
        return self._acks.take(self.last_seq, self._output.position(), now)

    def note_played(self, item_id: str, samples: int, now: float) -> None:
        """Take the application's word for what was played; it goes with the next acknowledgement."""
        self._output.note_played(item_id, samples)
        if self.attached and self.in_force:
            self._acks.note_new(now)

    def reopen_request(self, message: Open, refused: TrunklineError) -> ConverseRequest | None:
        """Return `open` without features, if those were refused, before anything was taken; None = for good."""
        is_refused = self.state is State.OPENING or self.failure is refused
        if refused.reason != "NOT_IMPLEMENTED_YET" or not message.features or not is_refused:
            return None
        self.state, self.failure = State.OPENING, None
        request = ConverseRequest(open=message)
        request.open.ClearField("features")
        return request

    # What is received.

    def receive_opening(self, response: ConverseResponse) -> Opened | Queued | None:
        """Do as the plain one does, and learn what is in force."""
        message = super().receive_opening(response)
        self._read_bytes += response.ByteSize()
        if isinstance(message, Opened):
            self.in_force = FEATURE_RESUMABLE in message.features and bool(message.resume_token)
            self._set_up(message)
            self._token, self._owner = message.resume_token, message.owner_address
            if self.in_force:
                self._numbers.applies(response)
        return message

    def take_in(self, response: ConverseResponse, size_bytes: int, now: float) -> Event | None:
        """Return the event of a message; None = none, or it was there before.

        Raises CONNECTION_LOST where one is missing, INTERNAL if the gateway breaks the contract's order.
        """
        if not self.in_force:
            return self.receive(response)
        kind = response.WhichOneof("message")
        self._acks.note_read(size_bytes, now, has_content=kind is not None, numbered=response.seq > 0)
        if response.HasField("ack") and not self._numbers.is_outdated(response):
            self._unacked.acknowledge(response.ack.cseq)
        if not self._numbers.applies(response):
            return None
        self.last_seq = self._numbers.last_seq
        return None if kind is None else self._event_for_caller(kind, response, now)

    def _event_for_caller(self, kind: str, response: ConverseResponse, now: float) -> Event | None:
        match kind:
            case "audio":
                return self._output.hand_out(response.audio)
            case "token":
                self._token = response.token.resume_token
                return None
            case "go_away" if response.go_away.reason == _DRAINING:
                # Elsewhere at once: that one would refuse.
                self._owner = ""
        self._take_note(kind, response, now)
        return self._event(kind, response)

    def _take_note(self, kind: str, response: ConverseResponse, now: float) -> None:
        """Note what goes on, audio apart; of use to one who moves."""

    # Time.

    def listen(self, now: float) -> None:
        """Note that this side begins to read."""
        self._silence.listen(now)

    def hear(self) -> None:
        """Note that it reads no more, be it that it got something."""
        self._silence.hear()

    def due_at(self, now: float) -> float:
        """Return when `next_request` and `is_silent` have to be asked again, if nothing else happens."""
        if self.attached and self.state is State.CLOSED and not self.has_finished:
            return now
        rest_until = now + _REST_SECONDS
        if not self.attached or not self.in_force or self.has_finished:
            return rest_until
        return min(self._acks.due_at(), self._silence.due_at(), rest_until)

    def expect(self, at: float) -> None:
        """Note when the shell will ask again: what comes much later shows that it stood still."""
        self._silence.expect(at)

    def is_silent(self, now: float) -> bool:
        """Tell whether the stream has to be given up, for the gateway is silent."""
        return self.attached and self.in_force and self._silence.is_over(now)

    # From one stream to the next.

    def attach(self, now: float) -> None:
        """Begin with a stream on which `opened` or `resumed` came."""
        self.attached = True
        self._acks = Acks(self._options.ack_interval_seconds, self._heartbeat_seconds, self._window_bytes, now)
        self._acks.note_read(self._read_bytes, now, has_content=True, numbered=False)
        self._silence = Silence(self._heartbeat_seconds if self.in_force else math.inf)

    def detach(self) -> None:
        """Note that the stream is over."""
        self.attached = False
        self._unacked.pause()

    def attempts(self, failure: TrunklineError | None, now: float) -> Attempts | None:
        """Return how to go on after a stream ended like this (None = status OK); None = not at all."""
        if self.state not in {State.OPEN, State.INPUT_ENDED} or not self.in_force:
            return None
        # OK without `closed` is a loss like any other.
        failure = failure or refusal("CONNECTION_LOST", "the stream ended without `closed`")
        if not may_go_on(failure) or not self._resume_window_seconds:
            return None
        owner = "" if failure.reason == "DRAINING" else self._owner
        return Attempts(failure, owner, self._resume_window_seconds, self._options, now)

    def end(self, failure: TrunklineError | None) -> None:
        """Note that the session is over, as the plain one does; a stream that is lost behind `closed` is no failure."""
        is_told = self.in_force and self.state is State.CLOSED
        super().end(None if is_told and failure is not None and is_lost(failure) else failure)

    def resume_request(self, read_bytes: int = 0) -> ConverseRequest:
        """Return what claims the session for the next stream, of which so much was read before."""
        self._read_bytes = read_bytes
        return self._resume(RESUME_MODE_CLAIM)

    def _resume(self, mode: ResumeMode.ValueType) -> ConverseRequest:
        return ConverseRequest(
            resume=Resume(
                token=self._token,
                mode=mode,
                last_seq=self.last_seq,
                epochs=self._numbers.epochs,
                input_kept_from=self._unacked.audio_kept_from,
                output=self._output.position(),
                last_cseq=self.cseq,
                protocol_revision=PROTOCOL_REVISION,
            )
        )

    def receive_resumed(self, response: ConverseResponse) -> Resumed | None:
        """Return the answer to `resume`; None = it is still to come. Raises INTERNAL for another."""
        self._read_bytes += response.ByteSize()
        kind = response.WhichOneof("message")
        if kind in {None, "queued"}:
            return None
        if kind != "resumed":
            raise refusal("INTERNAL", f"the gateway answered `resume` by {kind}")
        resumed = response.resumed
        self._numbers.applies(response)
        self._numbers.resumed(response.epoch, resumed.replay_to)
        if resumed.HasField("gap"):
            self._numbers.skip(resumed.gap)
        self.last_seq = self._numbers.last_seq
        self._token, self._owner = resumed.resume_token or self._token, resumed.owner_address
        self._unacked.rewind(resumed.next_cseq, resumed.input_position_wanted)
        self.resumed_count += 1
        return resumed


def _sample_bytes(audio_format: AudioFormat.ValueType) -> int:
    return bytes_per_second(audio_format) // rate_hz(audio_format)
