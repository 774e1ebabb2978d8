"""The core of a session that outlives its streams, alone: what it sends, keeps, and makes of an answer."""

import pytest
from trunkline.v1.control_pb2 import Control, TextInput
from trunkline.v1.event_pb2 import Closed, GoAway, ItemDone, OutputAudio
from trunkline.v1.session_pb2 import ConverseRequest, ConverseResponse, Limits, Open, Opened, Resumed
from trunkline.v1.types_pb2 import AUDIO_FORMAT_PCMU, FEATURE_RESUMABLE, GatewayAck

from trunkline_client import CapacityError, ConnectionOptions, GatewayError, TrunklineError
from trunkline_client._resumable import ResumableCore
from trunkline_client._session import State
from trunkline_client.errors import refusal

LOST = refusal("CONNECTION_LOST", "cut")
LIMITS = Limits(resume_window_seconds=120, message_max_bytes=65_536)


def opened(**fields: object) -> ConverseResponse:
    usual: dict[str, object] = {"features": [FEATURE_RESUMABLE], "resume_token": "t", "limits": LIMITS}
    return ConverseResponse(opened=Opened(**{**usual, "heartbeat_ms": 1000, **fields}), seq=1)  # type: ignore[arg-type]


def attached(response: ConverseResponse | None = None) -> ResumableCore:
    core = ResumableCore(ConnectionOptions(), unsent_max_bytes=1000)
    core.open_request(Open())
    core.receive_opening(response or opened())
    core.attach(0.0)
    core.listen(0.0)
    return core


def sent(core: ResumableCore, now: float = 0.0) -> list[ConverseRequest]:
    found = []
    while (request := core.next_request(now)) is not None:
        found.append(request)
    return found


def taken(core: ResumableCore, response: ConverseResponse, now: float = 0.0) -> object:
    return core.take_in(response, response.ByteSize(), now)


def text(words: str) -> Control:
    return Control(text=TextInput(text=words))


def test_audio_says_where_it_begins_and_half_a_sample_waits_for_its_other_half() -> None:
    core = attached()
    for data in (b"aab", b"b", b"", b"c", b"cd"):
        core.audio_request(data)
    assert [(each.audio, each.audio_position) for each in sent(core)] == [(b"aa", 0), (b"bb", 1), (b"cc", 2)]


def test_a_byte_of_telephone_audio_is_a_sample() -> None:
    core = attached(opened(input_format=AUDIO_FORMAT_PCMU))
    for data in (b"abc", b"d"):
        core.audio_request(data)
    assert [each.audio_position for each in sent(core)] == [0, 3]


def test_an_acknowledgement_rides_and_is_not_sent_again_with_what_carried_it() -> None:
    core = attached()
    core.control_request(text("1"))
    (first,) = sent(core, 0.1)
    assert (first.ack.seq, first.ack.read_bytes) == (1, opened().ByteSize())
    core.detach()
    core.resume_request()
    core.receive_resumed(ConverseResponse(resumed=Resumed(next_cseq=1)))
    core.attach(1.0)
    (again,) = (each for each in sent(core, 1.0) if each.cseq)
    assert again.control == first.control
    assert again.ack.read_bytes != first.ack.read_bytes


def test_an_acknowledgement_alone_goes_when_it_is_due_and_not_before() -> None:
    core = attached()
    assert sent(core, 0.2) == []
    (alone,) = sent(core, 0.25)
    assert alone.WhichOneof("message") is None
    assert alone.ack.seq == 1
    assert core.due_at(0.25) == 1.25
    assert sent(core, 1.2) == []
    assert len(sent(core, 1.25)) == 1


def test_what_is_acknowledged_is_not_sent_again() -> None:
    core = attached()
    for words in "abc":
        core.control_request(text(words))
    core.audio_request(bytes(20))
    sent(core)
    taken(core, ConverseResponse(ack=GatewayAck(cseq=2, input_samples=10)))
    core.detach()
    resume = core.resume_request().resume
    assert (resume.last_cseq, resume.last_seq) == (3, 1)
    assert resume.input_kept_from == 0, "a gateway that dies forgets what it has of the audio"
    core.receive_resumed(ConverseResponse(resumed=Resumed(next_cseq=1, input_position_wanted=0)))
    core.attach(0.0)
    again = [each for each in sent(core) if each.WhichOneof("message")]
    assert [(each.cseq, len(each.audio)) for each in again] == [(3, 0), (0, 20)]


def test_a_control_that_is_taken_and_not_stored_is_not_forgotten() -> None:
    core = attached()
    for words in "ab":
        core.control_request(text(words))
    sent(core)
    core.detach()
    core.resume_request()
    core.receive_resumed(ConverseResponse(resumed=Resumed(next_cseq=3)))
    core.attach(0.0)
    assert [each.cseq for each in sent(core) if each.WhichOneof("message")] == []
    core.detach()
    core.resume_request()
    core.receive_resumed(ConverseResponse(resumed=Resumed(next_cseq=1)))
    core.attach(0.0)
    assert [each.cseq for each in sent(core) if each.WhichOneof("message")] == [1, 2]


def test_what_waits_for_the_stream_leaves_no_room_and_without_a_stream_there_is_room() -> None:
    core = attached()
    assert core.has_room
    core.audio_request(bytes(2000))
    assert not core.has_room
    core.detach()
    assert core.has_room


def test_more_controls_than_can_be_kept_are_refused_and_a_bye_is_not() -> None:
    core = attached()
    for number in range(256):
        core.control_request(text(str(number)))
    assert not core.has_room
    with pytest.raises(CapacityError, match="OVERLOADED"):
        core.control_request(text("more"))
    assert core.bye_request(now=True).cseq == 257


def test_closed_is_acknowledged_then_nothing_is_said_and_a_loss_is_none() -> None:
    core = attached()
    core.audio_request(bytes(10))
    assert taken(core, ConverseResponse(closed=Closed(), seq=2)) == Closed()
    assert core.due_at(5.0) == 5.0
    (last,) = sent(core)
    assert (last.ack.seq, last.WhichOneof("message")) == (2, None)
    assert core.has_finished
    core.detach()
    assert core.attempts(LOST, 0.0) is None
    core.end(LOST)
    assert core.failure is None


def test_only_a_session_that_is_parked_and_was_lost_goes_on() -> None:
    assert attached().attempts(LOST, 0.0) is not None
    assert attached().attempts(None, 0.0) is not None
    assert attached().attempts(refusal("SUPERSEDED", ""), 0.0) is None
    assert attached(opened(limits=Limits())).attempts(LOST, 0.0) is None
    assert attached(opened(features=[])).attempts(LOST, 0.0) is None
    abandoned = attached()
    abandoned.abandon()
    assert abandoned.attempts(LOST, 0.0) is None


@pytest.mark.parametrize(
    ("reason", "owner"), [("CONNECTION_LOST", "owner:1"), ("OVERLOADED", "owner:1"), ("DRAINING", "")]
)
def test_the_owner_is_asked_first_unless_it_goes_away(reason: str, owner: str) -> None:
    attempts = attached(opened(owner_address="owner:1")).attempts(refusal(reason, ""), 0.0)
    assert attempts is not None
    assert attempts.next(0.0, 1.0).owner == owner


def test_a_gateway_that_announced_it_goes_away_is_not_asked() -> None:
    core = attached(opened(owner_address="owner:1"))
    taken(core, ConverseResponse(go_away=GoAway(reason="draining")))
    attempts = core.attempts(LOST, 0.0)
    assert attempts is not None
    assert attempts.next(0.0, 1.0).owner == ""


def test_where_it_is_not_in_force_nothing_is_numbered_kept_or_acknowledged() -> None:
    core = attached(opened(features=[]))
    core.audio_request(b"abc")
    core.control_request(text("1"))
    first, second = sent(core, 100.0)
    assert (first.audio, first.audio_position, second.cseq) == (b"abc", 0, 1)
    assert not first.HasField("ack")
    assert not core.is_silent(100.0)
    with pytest.raises(GatewayError, match="seq 1 after 1"):
        taken(core, ConverseResponse(item_done=ItemDone(), seq=1))
    core.detach()
    core.receive_resumed(ConverseResponse(resumed=Resumed()))
    core.attach(0.0)
    assert sent(core) == []


def test_a_token_is_no_event_and_the_newest_is_shown() -> None:
    core = attached()
    response = ConverseResponse()
    response.token.resume_token = "u"
    assert taken(core, response) is None
    assert core.resume_request().resume.token == "u"
    core.receive_resumed(ConverseResponse(resumed=Resumed(resume_token="v")))
    assert core.resume_request().resume.token == "v"


def test_another_answer_to_resume_breaks_the_contract_and_an_acknowledgement_does_not() -> None:
    core = attached()
    core.detach()
    assert core.receive_resumed(ConverseResponse(ack=GatewayAck())) is None
    with pytest.raises(TrunklineError, match="INTERNAL"):
        core.receive_resumed(ConverseResponse(audio=OutputAudio()))
    assert core.state is State.OPEN
