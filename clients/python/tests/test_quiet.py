"""What counts as a quiet moment of a conversation."""

import math

import pytest
from trunkline.v1.control_pb2 import CommitAudio, Control, CreateResponse, ToolResult
from trunkline.v1.errors_pb2 import Error
from trunkline.v1.event_pb2 import ItemDone, ResponseCreated, ResponseDone, SpeechStarted, SpeechStopped
from trunkline.v1.session_pb2 import ConverseResponse

from trunkline_client._quiet import Quiet, asks

CREATED = ConverseResponse(response_created=ResponseCreated(response_id="r1"))
DONE = ConverseResponse(response_done=ResponseDone(response_id="r1"))
STARTED = ConverseResponse(speech_started=SpeechStarted())
STOPPED = ConverseResponse(speech_stopped=SpeechStopped())


def noted(quiet: Quiet, *responses: ConverseResponse) -> Quiet:
    """Note messages that came at 1, 2, 3, …"""
    for now, response in enumerate(responses, 1):
        quiet.note(response.WhichOneof("message") or "", response, float(now))
    return quiet


def asked(*numbers: int) -> Quiet:
    quiet = Quiet()
    for number in numbers:
        quiet.ask(number)
    return quiet


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        (Control(create_response=CreateResponse()), True),
        (Control(tool_result=ToolResult(create_response=True)), True),
        (Control(tool_result=ToolResult()), False),
        (Control(commit=CommitAudio()), False),
    ],
)
def test_which_controls_ask_for_an_answer(control: Control, expected: bool) -> None:  # noqa: FBT001
    assert asks(control) is expected


def test_at_its_beginning_it_has_always_rested() -> None:
    assert Quiet().since == -math.inf


def test_an_answer_is_due_from_the_moment_it_is_asked_for_until_it_is_done() -> None:
    quiet = asked(7)
    assert quiet.since == math.inf
    assert noted(quiet, CREATED).since == math.inf
    assert noted(quiet, CREATED, DONE).since == 2


def test_an_answer_that_nobody_asked_for_counts_too() -> None:
    assert noted(Quiet(), CREATED).since == math.inf
    assert noted(Quiet(), CREATED, DONE).since == 2


def test_what_is_refused_is_not_due_any_more() -> None:
    refused = ConverseResponse(error=Error(cseq=7))
    assert noted(asked(7), refused).since == 1
    assert noted(asked(8), refused).since == math.inf


def test_an_answer_whose_beginning_was_lost_is_done_all_the_same() -> None:
    assert noted(asked(7), DONE).since == 1


def test_each_answer_that_was_asked_for_is_waited_for() -> None:
    second = ConverseResponse(response_done=ResponseDone(response_id="r2"))
    assert noted(asked(7, 8), CREATED, DONE).since == math.inf
    assert noted(asked(7, 8), CREATED, DONE, second).since == 3


def test_who_speaks_is_not_interrupted() -> None:
    assert noted(Quiet(), STARTED).since == math.inf
    assert noted(Quiet(), STARTED, STOPPED).since == 2


def test_what_is_no_answer_and_no_speech_changes_nothing() -> None:
    item = ConverseResponse(item_done=ItemDone())
    assert noted(Quiet(), STARTED, STOPPED, item).since == 2
