"""The core alone: every cell of its table, filled or empty."""

import itertools

import pytest
from trunkline.v1.control_pb2 import Control
from trunkline.v1.event_pb2 import Closed, OutputAudio, Queued, SpeechStarted
from trunkline.v1.session_pb2 import ConverseResponse, Limits, Open, Opened

from trunkline_client import CallerError, GatewayError, TrunklineError
from trunkline_client._session import TABLE, Move, SessionCore, State
from trunkline_client.errors import refusal

OPENED = ConverseResponse(opened=Opened(session_id="s1", limits=Limits(message_max_bytes=10)))
CLOSED = ConverseResponse(closed=Closed())
QUEUED = ConverseResponse(queued=Queued(position=1))
AUDIO = ConverseResponse(audio=OutputAudio(data=b"x"))


def core_in(state: State) -> SessionCore:
    """Return a core that came to `state` the usual way."""
    core = SessionCore()
    if state is not State.NOT_OPENED:
        core.open_request(Open())
    if state not in {State.NOT_OPENED, State.OPENING}:
        core.receive_opening(OPENED)
    if state is State.INPUT_ENDED:
        core.bye_request(now=False)
    if state in {State.CLOSED, State.ENDED}:
        core.receive(CLOSED)
    if state is State.ENDED:
        core.end(None)
    assert core.state is state
    return core


def perform(core: SessionCore, move: Move) -> None:
    opening = core.state in {State.NOT_OPENED, State.OPENING}
    receive = core.receive_opening if opening else core.receive
    match move:
        case Move.SEND_OPEN:
            core.open_request(Open())
        case Move.SEND_BYE:
            core.bye_request(now=True)
        case Move.RECEIVE_QUEUED:
            receive(QUEUED)
        case Move.RECEIVE_OPENED:
            receive(OPENED)
        case Move.RECEIVE_CLOSED:
            receive(CLOSED)


@pytest.mark.parametrize(("state", "move"), list(itertools.product(State, Move)))
def test_each_cell_moves_and_each_empty_cell_refuses(state: State, move: Move) -> None:
    core = core_in(state)
    following = TABLE.get((state, move))
    if following is None:
        with pytest.raises(TrunklineError) as refused:
            perform(core, move)
        assert refused.value.reason in {"NOT_OPEN", "ALREADY_OPEN", "INTERNAL"}
    else:
        perform(core, move)
    assert core.state is (following or state)


@pytest.mark.parametrize("state", list(State))
def test_input_is_taken_only_while_the_session_is_open(state: State) -> None:
    core = core_in(state)
    if state is State.OPEN:
        assert core.audio_request(b"x").audio == b"x"
        assert core.control_request(Control()).cseq == 1
        return
    with pytest.raises(CallerError, match="NOT_OPEN"):
        core.audio_request(b"x")
    with pytest.raises(CallerError, match="NOT_OPEN"):
        core.control_request(Control())


def test_controls_and_bye_are_numbered_and_audio_is_not() -> None:
    core = core_in(State.OPEN)
    assert core.control_request(Control()).cseq == 1
    assert core.audio_request(b"x").cseq == 0
    assert core.bye_request(now=False).cseq == 2


def test_a_refused_control_takes_no_number() -> None:
    core = core_in(State.OPEN)
    with pytest.raises(CallerError, match="MESSAGE_TOO_LARGE"):
        core.audio_request(bytes(11))
    assert core.control_request(Control()).cseq == 1


def test_without_a_limit_any_length_goes() -> None:
    core = SessionCore()
    core.open_request(Open())
    core.receive_opening(ConverseResponse(opened=Opened()))
    assert len(core.audio_request(bytes(10_000_000)).audio) == 10_000_000


def test_the_last_seq_is_known_and_must_rise() -> None:
    core = core_in(State.OPEN)
    core.receive(ConverseResponse(audio=OutputAudio(), seq=5))
    core.receive(ConverseResponse(speech_started=SpeechStarted(), after_seq=5))
    assert core.last_seq == 5
    with pytest.raises(GatewayError, match="seq 5 after 5"):
        core.receive(ConverseResponse(audio=OutputAudio(), seq=5))


def test_a_message_without_content_or_of_a_newer_contract_is_passed_over() -> None:
    core = core_in(State.OPEN)
    newer = ConverseResponse.FromString(b"\xfa\x3e\x00" + ConverseResponse(seq=9).SerializeToString())
    assert core.receive(newer) is None
    assert core.last_seq == 9


def test_a_clean_end_that_nobody_announced_is_a_loss() -> None:
    core = core_in(State.OPEN)
    core.end(None)
    assert core.failure is not None
    assert core.failure.reason == "CONNECTION_LOST"
    announced = core_in(State.CLOSED)
    announced.end(None)
    assert announced.failure is None


def test_the_first_end_wins() -> None:
    core = core_in(State.OPEN)
    first = refusal("TIMED_OUT", "first")
    core.end(first)
    core.end(refusal("CONNECTION_LOST", "second"))
    core.abandon()
    assert core.failure is first
    with pytest.raises(TrunklineError, match="first"):
        core.audio_request(b"x")


def test_an_abandoned_session_has_not_failed() -> None:
    core = core_in(State.OPEN)
    core.abandon()
    core.end(refusal("CANCELLED", "the consequence"))
    assert core.failure is None


def test_events_do_not_come_after_closed_or_before_opened() -> None:
    with pytest.raises(GatewayError):
        core_in(State.OPENING).receive_opening(AUDIO)
