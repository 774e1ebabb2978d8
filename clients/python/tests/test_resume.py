"""The small pure parts of a session that outlives its streams: numbers, output, acknowledgements, silence."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trunkline.v1.event_pb2 import OutputAudio
from trunkline.v1.session_pb2 import ConverseResponse, SeqRange

from trunkline_client import TrunklineError
from trunkline_client._acks import NUMBERED_MAX, Acks
from trunkline_client._numbers import Numbers
from trunkline_client._output import Output
from trunkline_client._silence import Silence

# Numbers.


def test_a_number_is_applied_once_and_a_hole_is_a_loss() -> None:
    numbers = Numbers()
    answers = [numbers.applies(ConverseResponse(seq=seq)) for seq in (1, 2, 2, 1, 0, 3)]
    assert answers == [True, True, False, False, True, True]
    with pytest.raises(TrunklineError, match=r"CONNECTION_LOST.*seq 5 after 3"):
        numbers.applies(ConverseResponse(seq=5))
    assert numbers.last_seq == 3


@pytest.mark.parametrize(("first", "last", "comes"), [(3, 5, [6]), (4, 5, [3, 6]), (1, 5, [6]), (4, 4, [3, 5])])
def test_a_gap_that_is_announced_is_passed_over(first: int, last: int, comes: list[int]) -> None:
    numbers = Numbers()
    for seq in (1, 2):
        numbers.applies(ConverseResponse(seq=seq))
    numbers.skip(SeqRange(**{"from": first, "to": last}))
    assert all(numbers.applies(ConverseResponse(seq=seq)) for seq in comes)
    assert not numbers.applies(ConverseResponse(seq=last))


def test_a_gap_at_the_end_counts_as_received() -> None:
    numbers = Numbers()
    numbers.applies(ConverseResponse(seq=1))
    numbers.skip(SeqRange(**{"from": 2, "to": 9}))
    assert numbers.last_seq == 9


def test_an_older_owner_is_not_heard_and_the_last_16_are_known() -> None:
    numbers = Numbers()
    for number in range(1, 21):
        assert numbers.applies(ConverseResponse(seq=number, epoch=number))
    assert not numbers.applies(ConverseResponse(epoch=19))
    assert numbers.applies(ConverseResponse())
    assert [(each.epoch, each.first_seq) for each in numbers.epochs] == [(each, each) for each in range(5, 21)]


def test_who_wrote_what_is_told_again_is_known_and_who_writes_from_now_on() -> None:
    numbers = Numbers()
    assert numbers.applies(ConverseResponse(seq=1, epoch=1))
    assert numbers.applies(ConverseResponse(epoch=9))
    numbers.resumed(9, replay_to=4)
    assert all(numbers.applies(ConverseResponse(seq=seq, epoch=epoch)) for seq, epoch in ((2, 1), (3, 5), (4, 5)))
    assert numbers.applies(ConverseResponse(seq=5, epoch=9))
    assert [(each.epoch, each.first_seq) for each in numbers.epochs] == [(1, 1), (5, 3), (9, 5)]


# Output.


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), max_size=40))
def test_each_sample_is_handed_out_once_whatever_is_sent_twice(pieces: list[tuple[str, int]]) -> None:
    """Each item comes in order, with rewinds to any earlier place."""
    output, handed = Output(2), {"a": bytearray(), "b": bytearray()}
    ends = {"a": 0, "b": 0}
    for number, (item_id, samples) in enumerate(pieces):
        begin = ends[item_id] * (number % 3) // 3 if number % 2 else ends[item_id]
        data = b"".join(sample.to_bytes(2, "big") for sample in range(begin, begin + samples))
        piece = output.hand_out(OutputAudio(item_id=item_id, position=begin, data=data))
        if piece is not None:
            assert piece.position * 2 == len(handed[item_id]) or not piece.data
            handed[item_id] += piece.data
        ends[item_id] = max(ends[item_id], begin + samples)
    for item_id, end in ends.items():
        assert handed[item_id] == b"".join(sample.to_bytes(2, "big") for sample in range(end))


def test_played_is_what_was_received_until_the_application_tells() -> None:
    output = Output(2)
    assert output.position() is None
    output.hand_out(OutputAudio(item_id="a", data=bytes(20)))
    position = output.position()
    assert position is not None
    assert (position.item_id, position.received_samples, position.played_samples) == ("a", 10, 10)
    output.note_played("a", 4)
    position = output.position()
    assert position is not None
    assert (position.received_samples, position.played_samples) == (10, 4)
    output.note_played("a", 40)
    output.hand_out(OutputAudio(item_id="b", data=bytes(20)))
    position = output.position()
    assert position is not None
    assert (position.item_id, position.received_samples, position.played_samples) == ("b", 10, 0)


# Acknowledgements.


def acks(window_bytes: int = 0) -> Acks:
    return Acks(0.25, 1.0, window_bytes, now=0.0)


def test_nothing_new_is_told_once_a_heartbeat() -> None:
    box = acks()
    assert box.due_at() == 1.0
    box.note_sent(0.7)
    assert box.due_at() == 1.7
    box.note_read(10, 1.0, has_content=False, numbered=False)
    assert box.due_at() == 1.7
    assert box.take(3, None, 1.7).read_bytes == 10
    assert box.due_at() == 2.7


def test_what_is_new_is_told_within_the_interval_and_rides_before() -> None:
    box = acks()
    box.note_read(10, 2.0, has_content=True, numbered=False)
    box.note_sent(2.0)
    assert box.due_at() == 2.25
    assert box.rides(2.0, on_audio=False)
    assert not box.rides(2.1, on_audio=True)
    assert box.rides(2.125, on_audio=True)
    box.take(0, None, 2.125)
    assert not box.rides(2.2, on_audio=False)
    box.note_new(2.2)
    assert box.due_at() == 2.45


def test_32_numbered_messages_or_a_quarter_of_the_window_are_told_at_once() -> None:
    box = acks()
    for _ in range(NUMBERED_MAX):
        assert box.due_at() > 0.0
        box.note_read(10, 0.0, has_content=True, numbered=True)
    assert box.due_at() == 0.0
    assert box.rides(0.0, on_audio=True)
    window = acks(400)
    window.note_read(99, 0.0, has_content=True, numbered=False)
    assert window.due_at() == 0.25
    window.note_read(1, 0.1, has_content=False, numbered=False)
    assert window.due_at() <= 0.1
    assert window.take(0, None, 0.1).read_bytes == 100


# Silence.


def test_three_heartbeats_without_a_word_are_too_many() -> None:
    silence = Silence(1.0)
    assert silence.due_at() == math.inf
    silence.listen(5.0)
    assert not silence.is_over(7.9)
    assert silence.is_over(8.0)
    silence.hear()
    assert not silence.is_over(100.0)


def test_the_time_in_which_this_side_stood_still_does_not_count() -> None:
    silence = Silence(1.0)
    silence.listen(0.0)
    silence.expect(1.0)
    assert not silence.is_over(4.0)
    silence.expect(5.0)
    assert not silence.is_over(5.2)
    silence.expect(6.0)
    assert silence.is_over(6.0)
