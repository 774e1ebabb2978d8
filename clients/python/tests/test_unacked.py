"""What is sent again: whatever is cut where, each control and each sample counts once, in the first order."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from trunkline.v1.control_pb2 import Control, TextInput
from trunkline.v1.session_pb2 import ConverseRequest

from trunkline_client._unacked import CONTROLS_MAX, Unacked

PLENTY = 1_000_000


@dataclass
class Gateway:
    """Takes what comes as the contract says: nothing twice, and no control before another."""

    cseq: int = 0
    samples: int = 0
    taken: list[str] = field(default_factory=list)

    def take(self, request: ConverseRequest) -> None:
        if request.cseq:
            assert request.cseq <= self.cseq + 1, "a control is missing"
            if request.cseq == self.cseq + 1:
                self.cseq += 1
                self.taken.append(f"control {request.cseq}")
            return
        assert request.audio_position <= self.samples, "audio is missing"
        end = request.audio_position + len(request.audio) // 2
        self.taken += [f"sample {number}" for number in range(self.samples, end)]
        self.samples = max(self.samples, end)


def control(cseq: int, words: str = "") -> ConverseRequest:
    return ConverseRequest(control=Control(text=TextInput(text=words)), cseq=cseq)


def audio(unacked: Unacked, samples: int) -> ConverseRequest:
    return ConverseRequest(audio=bytes(2 * samples), audio_position=unacked.position)


def drained(unacked: Unacked) -> list[ConverseRequest]:
    found = []
    while (entry := unacked.take()) is not None:
        found.append(entry.request)
    return found


STEPS = st.lists(
    st.one_of(
        st.just(("control", 0)),
        st.tuples(st.just("audio"), st.integers(1, 5)),
        st.tuples(st.just("deliver"), st.integers(1, 6)),
        st.tuples(st.just("swallow"), st.integers(1, 6)),
        st.just(("ack", 0)),
        st.just(("cut", 0)),
        st.just(("resume", 0)),
    ),
    max_size=60,
)


class Talk:
    """A caller, a wire that can be cut, and a gateway."""

    def __init__(self) -> None:
        self.unacked = Unacked(2, PLENTY)
        self.gateway = Gateway()
        self.expected: list[str] = []
        self.cseq = 0
        self.attached = True
        self.swallows = False

    def control(self, _: int) -> None:
        self.cseq += 1
        self.expected.append(f"control {self.cseq}")
        self.unacked.add_control(control(self.cseq))

    def audio(self, samples: int) -> None:
        begin = self.unacked.position
        self.expected += [f"sample {each}" for each in range(begin, begin + samples)]
        self.unacked.add_audio(audio(self.unacked, samples))

    def deliver(self, messages: int) -> None:
        for _ in range(messages if self.attached else 0):
            entry = self.unacked.take()
            if entry is not None and not self.swallows:
                self.gateway.take(entry.request)

    def swallow(self, messages: int) -> None:
        """Lose what is on the way when the stream will be cut: nothing behind it arrives either."""
        self.swallows = True
        self.deliver(messages)

    def ack(self, _: int) -> None:
        self.unacked.acknowledge(self.gateway.cseq, self.gateway.samples)

    def cut(self, _: int) -> None:
        self.attached = self.swallows = False
        self.unacked.pause()

    def resume(self, _: int) -> None:
        if not self.attached:
            self.attached = True
            self.unacked.rewind(self.gateway.cseq + 1, self.gateway.samples)


@given(STEPS)
def test_any_cut_of_any_sequence_is_sent_again_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    talk = Talk()
    for step, number in [*steps, ("cut", 0), ("resume", 0)]:
        getattr(talk, step)(number)
    before = len(talk.gateway.taken)
    again = drained(talk.unacked)
    for request in again:
        talk.gateway.take(request)
    assert talk.gateway.taken == talk.expected
    # Nothing goes that the gateway had: not a control, not a sample.
    sent = sum(1 if request.cseq else len(request.audio) // 2 for request in again)
    assert sent == len(talk.expected) - before


@given(st.lists(st.integers(1, 9), max_size=40), st.integers(1, 30))
def test_without_a_stream_the_newest_audio_is_kept_and_no_more(pieces: list[int], samples_max: int) -> None:
    unacked = Unacked(2, samples_max)
    unacked.pause()
    for samples in pieces:
        unacked.add_audio(audio(unacked, samples))
    kept = unacked.position - unacked.audio_kept_from
    assert min(samples_max, sum(pieces)) <= kept < samples_max + 9
    unacked.rewind(1, 0)
    again = drained(unacked)
    assert sum(len(request.audio) // 2 for request in again) == kept
    assert [request.audio_position for request in again][:1] == ([unacked.audio_kept_from] if pieces else [])


def test_audio_that_waits_for_its_stream_does_not_fall_out() -> None:
    unacked = Unacked(2, 10)
    for _ in range(5):
        unacked.add_audio(audio(unacked, 10))
    assert len(drained(unacked)) == 5
    unacked.add_audio(audio(unacked, 10))
    assert unacked.audio_kept_from == 50


def test_the_bound_counts_controls_and_bytes_and_an_acknowledgement_makes_room() -> None:
    unacked = Unacked(2, PLENTY)
    for cseq in range(1, CONTROLS_MAX + 1):
        assert not unacked.is_full
        unacked.add_control(control(cseq))
    assert unacked.is_full
    unacked.acknowledge(1, 0)
    assert not unacked.is_full
    large = Unacked(2, PLENTY)
    for cseq in range(1, 5):
        assert not large.is_full
        large.add_control(control(cseq, "x" * 262_144))
    assert large.is_full


def test_what_is_not_sent_yet_is_counted_in_bytes() -> None:
    unacked = Unacked(2, PLENTY)
    unacked.add_audio(audio(unacked, 100))
    unacked.add_control(control(1))
    assert unacked.unsent_bytes > 200
    drained(unacked)
    assert unacked.unsent_bytes == 0
    unacked.rewind(1, 0)
    assert unacked.unsent_bytes > 200
    unacked.pause()
    assert unacked.unsent_bytes == 0
    assert unacked.take() is None
