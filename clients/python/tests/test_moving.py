"""When a session moves: what is prepared, tried again, claimed and given up, without a socket or a clock."""

import math

import pytest
from trunkline.v1.control_pb2 import Control, CreateResponse
from trunkline.v1.event_pb2 import GoAway, OutputAudio, Queued, ResponseDone
from trunkline.v1.session_pb2 import (
    RESUME_MODE_CLAIM,
    RESUME_MODE_PREPARE,
    ConverseResponse,
    Greet,
    Limits,
    Open,
    Opened,
    Prepared,
    Resumed,
    SeqRange,
)
from trunkline.v1.types_pb2 import FEATURE_PLANNED_MOVE, FEATURE_RESUMABLE

from trunkline_client import ConnectionOptions, TrunklineError
from trunkline_client._movable import MovableCore
from trunkline_client._moving import Moving
from trunkline_client.errors import refusal

OPTIONS = ConnectionOptions()
REFUSED = refusal("DRAINING", "")


def moving(deadline_ms: int = 30_000) -> Moving:
    return Moving(deadline_ms, OPTIONS, 0.0)


def prepared(at: float, deadline_ms: int = 60_000) -> Moving:
    made = moving(deadline_ms)
    made.prepared(at)
    return made


# Trying.


def test_it_prepares_at_once_at_the_clients_own_address_and_not_at_the_owner() -> None:
    attempt = moving().next(0.0, 1.0)
    assert attempt is not None
    assert (attempt.owner, attempt.dials, attempt.pause_seconds) == ("", 1, 0.0)
    assert (attempt.dial_seconds, attempt.answer_seconds) == (1.0, 10.0)


def test_it_tries_again_four_times_with_pauses_that_grow() -> None:
    made, pauses = moving(), []
    while (attempt := made.next(0.0, 1.0)) is not None:
        pauses.append(attempt.pause_seconds)
        made.fail(REFUSED)
    assert pauses == [0.0, 0.05, 0.1, 0.2, 0.4]


def test_it_waits_as_long_as_the_gateway_advises() -> None:
    made = moving()
    made.next(0.0, 1.0)
    made.fail(TrunklineError("OVERLOADED", "", retry_after_seconds=1.5))
    attempt = made.next(0.0, 1.0)
    assert attempt is not None
    assert attempt.pause_seconds == 1.5


@pytest.mark.parametrize(("now", "again"), [(27.9, True), (28.0, False)])
def test_shortly_before_the_deadline_nothing_is_tried_again(now: float, again: bool) -> None:  # noqa: FBT001
    made = moving()
    made.next(0.0, 0.0)
    made.fail(REFUSED)
    assert (made.next(now, 0.0) is not None) is again


@pytest.mark.parametrize(("deadline_ms", "tries"), [(1500, True), (0, False)])
def test_the_first_try_needs_some_time_only(deadline_ms: int, tries: bool) -> None:  # noqa: FBT001
    assert (moving(deadline_ms).next(0.0, 0.0) is not None) is tries


def test_no_answer_is_waited_for_beyond_the_deadline() -> None:
    attempt = moving(4000).next(0.5, 0.0)
    assert attempt is not None
    assert attempt.answer_seconds == 3.5


def test_only_an_earlier_word_of_the_deadline_counts() -> None:
    made = prepared(1.0)
    made.hurry(90_000, 0.0)
    assert made.claim_at(math.inf) == 21.0
    made.hurry(10_000, 2.0)
    assert made.claim_at(math.inf) == 11.0


# The moment.


@pytest.mark.parametrize(
    ("quiet_since", "expected"),
    [
        (-math.inf, 5.0),
        (2.0, 5.0),
        (4.9, 5.15),
        (7.0, 7.25),
        # However long it takes: a gateway holds a line for 30 s.
        (math.inf, 25.0),
    ],
)
def test_it_claims_as_soon_as_it_has_been_quiet(quiet_since: float, expected: float) -> None:
    assert prepared(5.0).claim_at(quiet_since) == pytest.approx(expected)


def test_it_claims_a_second_before_the_deadline_quiet_or_not() -> None:
    assert prepared(5.0, 12_000).claim_at(math.inf) == 11.0


# The second stream.


def test_it_counts_what_it_reads_and_takes_only_the_contracts_answers() -> None:
    made, answer = moving(), ConverseResponse(prepared=Prepared(seq=300))
    made.next(0.0, 0.0)
    assert not made.receive(ConverseResponse())
    assert not made.receive(ConverseResponse(queued=Queued(position=1)))
    assert made.receive(answer)
    assert made.read_bytes == ConverseResponse(queued=Queued(position=1)).ByteSize() + answer.ByteSize()
    made.fail(REFUSED)
    made.next(0.0, 0.0)
    assert made.read_bytes == 0
    with pytest.raises(TrunklineError, match="INTERNAL"):
        made.receive(ConverseResponse(audio=OutputAudio()))
    with pytest.raises(TrunklineError, match="CONNECTION_LOST"):
        made.receive(None)


# The core.


def opened(*, moves: bool = True, window_seconds: int = 120, message: Open | None = None) -> MovableCore:
    core = MovableCore(OPTIONS, unsent_max_bytes=1000)
    core.open_request(message or Open())
    features = [FEATURE_RESUMABLE, FEATURE_PLANNED_MOVE][: 1 + moves]
    limits = Limits(resume_window_seconds=window_seconds, message_max_bytes=65_536)
    told = Opened(features=features, resume_token="t", heartbeat_ms=1000, limits=limits)
    core.receive_opening(ConverseResponse(opened=told, seq=1))
    core.attach(0.0)
    return core


def taken(core: MovableCore, response: ConverseResponse, now: float = 0.0) -> object:
    return core.take_in(response, response.ByteSize(), now)


def told_to_go(core: MovableCore) -> MovableCore:
    told = GoAway(reason="draining", deadline_ms=60_000)
    assert taken(core, ConverseResponse(go_away=told)) == told
    return core


def test_go_away_begins_a_move_where_that_is_granted_and_the_application_sees_it() -> None:
    assert told_to_go(opened()).moving is not None
    assert told_to_go(opened(moves=False)).moving is None
    assert told_to_go(opened(window_seconds=0)).moving is None


def test_after_bye_it_stays_where_it_is() -> None:
    core = opened()
    core.bye_request(now=False)
    assert told_to_go(core).moving is None


def test_a_second_word_hurries_the_move_that_is_there() -> None:
    core = told_to_go(opened())
    begun = core.moving
    taken(core, ConverseResponse(go_away=GoAway(deadline_ms=5000)), 1.0)
    assert core.moving is begun
    core.control_request(Control(create_response=CreateResponse()))
    assert core.claim_at == 5.0


def test_an_answer_that_is_due_delays_the_claim() -> None:
    core = told_to_go(opened())
    core.control_request(Control(create_response=CreateResponse()))
    assert core.claim_at == 20.0
    taken(core, ConverseResponse(response_done=ResponseDone(), seq=2), 3.0)
    assert core.claim_at == 3.25


def test_a_greeting_is_due_from_the_beginning() -> None:
    assert told_to_go(opened(message=Open(greet=Greet()))).claim_at == 20.0


def test_what_may_have_been_done_in_a_gap_is_not_waited_for() -> None:
    core = told_to_go(opened())
    core.control_request(Control(create_response=CreateResponse()))
    core.detach()
    core.resume_request()
    core.receive_resumed(ConverseResponse(resumed=Resumed(next_cseq=2, gap=SeqRange(**{"from": 2, "to": 3}))))
    assert core.claim_at == 0.0


def test_to_prepare_changes_nothing_and_the_claim_says_what_is_true_then() -> None:
    core = told_to_go(opened())
    first = core.prepare_request().resume
    assert (first.mode, first.last_seq, first.token) == (RESUME_MODE_PREPARE, 1, "t")
    assert core.attached
    taken(core, ConverseResponse(response_done=ResponseDone(), seq=2))
    core.detach()
    claim = core.resume_request(40).resume
    assert (claim.mode, claim.last_seq) == (RESUME_MODE_CLAIM, 2)
    answer = ConverseResponse(resumed=Resumed(next_cseq=1))
    core.receive_resumed(answer)
    # The first stream's end is noted once more.
    core.attach(0.0)
    request = core.next_request(1.0)
    assert request is not None
    assert request.ack.read_bytes == 40 + answer.ByteSize()
