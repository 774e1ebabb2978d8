"""What was sent and may have to be sent again: controls and audio, in the order of first sending. Pure."""

from collections import deque
from dataclasses import dataclass
from typing import Final

from trunkline.v1.session_pb2 import ConverseRequest

CONTROLS_MAX: Final = 256
CONTROLS_MAX_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One request, its place among all, and where its samples end (a control has none)."""

    order: int
    request: ConverseRequest
    size_bytes: int
    samples_end: int = 0


class Unacked:
    """Requests until they are acknowledged: all controls, and the newest audio.

    `take` hands out what is to be sent now; after `rewind` that begins with what the gateway lacks.
    """

    def __init__(self, sample_bytes: int, samples_max: int) -> None:
        """Begin empty; at least the last `samples_max` samples of audio are kept."""
        self._sample_bytes = sample_bytes
        self._samples_max = samples_max
        self._order = 0
        self._sending = True
        # What is kept, by kind, and what of it has to be sent, by order.
        self._controls: deque[Entry] = deque()
        self._audio: deque[Entry] = deque()
        self._unsent: deque[Entry] = deque()
        self._controls_bytes = 0
        self.unsent_bytes = 0
        # Where the next audio begins.
        self.position = 0

    @property
    def is_full(self) -> bool:
        """Whether no more controls can be kept."""
        return len(self._controls) >= CONTROLS_MAX or self._controls_bytes >= CONTROLS_MAX_BYTES

    @property
    def audio_kept_from(self) -> int:
        """The oldest sample that can be sent again."""
        return self._begin(self._audio[0]) if self._audio else self.position

    def add_control(self, request: ConverseRequest) -> None:
        """Keep a numbered control or bye, and send it after all that was added before."""
        entry = self._entry(request)
        self._controls.append(entry)
        self._controls_bytes += entry.size_bytes

    def add_audio(self, request: ConverseRequest) -> None:
        """The same for audio, which begins at `position`."""
        self.position += len(request.audio) // self._sample_bytes
        self._audio.append(self._entry(request, self.position))
        self._let_fall()

    def _entry(self, request: ConverseRequest, samples_end: int = 0) -> Entry:
        self._order += 1
        entry = Entry(self._order, request, request.ByteSize(), samples_end)
        if self._sending:
            self._push(entry)
        return entry

    def _push(self, entry: Entry) -> None:
        self._unsent.append(entry)
        self.unsent_bytes += entry.size_bytes

    def take(self) -> Entry | None:
        """Return what is to be sent next; None = nothing."""
        if not self._unsent:
            return None
        entry = self._unsent.popleft()
        self.unsent_bytes -= entry.size_bytes
        return entry

    def acknowledge(self, cseq: int, input_samples: int = 0) -> None:
        """Forget controls, and audio, up to here. What a gateway has of audio is not safe there: it may die."""
        while self._controls and self._controls[0].request.cseq <= cseq:
            self._controls_bytes -= self._controls.popleft().size_bytes
        while self._audio and self._audio[0].samples_end <= input_samples:
            self._audio.popleft()

    def _let_fall(self) -> None:
        """Forget audio that is older than what is kept, but none that still has to be sent."""
        oldest_kept = self.position - self._samples_max
        first_unsent = self._unsent[0].order if self._unsent else self._order + 1
        while self._audio and self._audio[0].samples_end <= oldest_kept and self._audio[0].order < first_unsent:
            self._audio.popleft()

    def pause(self) -> None:
        """Send nothing: what is kept goes again after `rewind`, and audio falls out while that is not to come."""
        self._sending = False
        self._unsent.clear()
        self.unsent_bytes = 0

    def rewind(self, next_cseq: int, input_position: int) -> None:
        """Send again, in the old order, what the gateway has not: from this control and this sample on."""
        self.pause()
        self._sending = True
        controls = (each for each in self._controls if each.request.cseq >= next_cseq)
        audio = (each for each in self._audio if each.samples_end > input_position)
        cut = (self._cut(each, input_position) if self._begin(each) < input_position else each for each in audio)
        for entry in sorted((*controls, *cut), key=lambda each: each.order):
            self._push(entry)

    def _begin(self, entry: Entry) -> int:
        return entry.samples_end - len(entry.request.audio) // self._sample_bytes

    def _cut(self, entry: Entry, begin: int) -> Entry:
        skipped_bytes = (begin - self._begin(entry)) * self._sample_bytes
        rest = ConverseRequest(audio=entry.request.audio[skipped_bytes:], audio_position=begin)
        return Entry(entry.order, rest, rest.ByteSize(), entry.samples_end)
