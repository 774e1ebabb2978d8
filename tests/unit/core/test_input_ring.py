"""The caller's audio that no turn has taken: nothing of a turn is lost, and silence is not hoarded."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.audio import PCM_24K
from gateway.core.input_ring import QUIET_SECONDS, SPEECH_SECONDS, InputRing

SECOND = PCM_24K.bytes_per_second
PADDING_MS = 300


def numbered(count: int, begin: int = 0) -> bytes:
    """Samples that say where they stand."""
    return b"".join((at % 65_536).to_bytes(2, "little") for at in range(begin, begin + count))


def test_while_nobody_speaks_a_little_more_than_the_padding_is_kept() -> None:
    ring = InputRing(PCM_24K, PADDING_MS)
    for _ in range(1000):
        ring.append(bytes(960))
    kept = len(ring.rest()) / SECOND
    assert QUIET_SECONDS + PADDING_MS / 1000 <= kept <= QUIET_SECONDS + PADDING_MS / 1000 + 0.02
    assert ring.end == 960_000


def test_a_turn_is_kept_from_its_beginning_for_half_a_minute() -> None:
    ring = InputRing(PCM_24K, PADDING_MS)
    ring.append(numbered(48_000))
    ring.speech_started(SECOND)
    for _ in range(1000):
        ring.append(bytes(960))
    assert ring.rest() == numbered(24_000, 24_000) + bytes(960_000)
    for _ in range(1000):
        ring.append(bytes(960))
    assert len(ring.rest()) <= SPEECH_SECONDS * SECOND + 960


def test_a_turn_takes_its_audio_and_leaves_what_comes_after_it() -> None:
    ring = InputRing(PCM_24K, PADDING_MS)
    ring.append(numbered(48_000))
    ring.speech_started(24_000)
    assert ring.turn_ended(72_000) == numbered(24_000, 12_000)
    assert ring.rest() == numbered(12_000, 36_000)
    assert ring.turn_ended() == numbered(12_000, 36_000)
    assert ring.rest() == b""


def test_what_the_caller_takes_back_is_gone() -> None:
    ring = InputRing(PCM_24K, PADDING_MS)
    ring.append(numbered(1000))
    ring.speech_started(100)
    ring.clear()
    ring.append(numbered(10, 1000))
    assert ring.rest() == numbered(10, 1000)


@given(
    sizes=st.lists(st.integers(1, 40_000), min_size=1, max_size=60),
    commits=st.sets(st.integers(0, 59)),
)
def test_turns_together_are_all_that_was_said_and_no_sample_is_torn(sizes: list[int], commits: set[int]) -> None:
    """Pieces may end in the middle of a sample."""
    ring, whole, turns = InputRing(PCM_24K, PADDING_MS), b"", b""
    samples = numbered(40_000)
    ring.speech_started(0)
    for number, size in enumerate(sizes):
        piece = samples[len(whole) % 2 :][:size]
        ring.append(piece)
        whole += piece
        if number in commits:
            turns += ring.turn_ended()
            ring.speech_started(ring.end)
    turns += ring.turn_ended()
    if len(whole) < SPEECH_SECONDS * SECOND:  # what is left of a torn sample belongs to neither turn
        assert len(whole) - len(turns) <= len(commits) + 1
    assert ring.start == ring.end == len(whole)


def test_speech_of_any_length_is_kept_to_its_end() -> None:
    ring = InputRing(PCM_24K, PADDING_MS)
    ring.append(bytes(SECOND))
    ring.speech_started(0)
    for _ in range(39):
        ring.append(bytes(SECOND))
    assert SPEECH_SECONDS * SECOND <= len(ring.rest()) <= (SPEECH_SECONDS + 1) * SECOND
    assert len(ring.turn_ended()) >= SPEECH_SECONDS * SECOND


def test_where_the_caller_ends_its_turns_all_is_part_of_one() -> None:
    ring = InputRing(PCM_24K, PADDING_MS)
    ring.is_manual = True
    for _ in range(200):
        ring.append(bytes(4800))
    assert len(ring.rest()) == 200 * 4800


def test_pieces_of_nothing_are_not_kept() -> None:
    ring = InputRing(PCM_24K, PADDING_MS)
    for _ in range(100):
        ring.append(b"")
    assert len(ring._pieces) == 0
