"""Sessions whose gateway goes away: what their tests share."""

from grpc import StatusCode
from trunkline.v1.event_pb2 import ResponseCreated, ResponseDone
from trunkline.v1.session_pb2 import ConverseResponse

from trunkline_client import AsyncSession
from trunkline_client.events import Event

from .long_session import LongSession
from .resuming import items_until
from .scripted_gateway import Conversation


def ends(conversation: Conversation) -> None:
    conversation.context.abort(StatusCode.UNAVAILABLE, "cut")


def says_nothing(conversation: Conversation) -> None:
    conversation.over.wait(10)
    ends(conversation)


async def said(session: AsyncSession, words: str) -> list[Event]:
    """Send a text and read until its item; return all other events."""
    await session.send_text(words)
    items, others = await items_until(session, words)
    assert items == [words]
    return others


async def answered(long: LongSession, session: AsyncSession) -> None:
    """Let an answer begin."""
    await session.create_response()
    assert (await items_until(session, ""))[0] == [""]
    long.say(ConverseResponse(response_created=ResponseCreated(response_id="r1")))


def done(long: LongSession) -> None:
    long.say(ConverseResponse(response_done=ResponseDone(response_id="r1")), numbered=True)
