"""What `open` gives where the gateway serves sessions that outlive their streams, and where it does not."""

import pytest
from grpc import StatusCode
from trunkline.v1.event_pb2 import ItemDone
from trunkline.v1.session_pb2 import ConverseResponse

from trunkline_client import AsyncSession, ConnectionLost, GatewayError

from . import scripts
from .long_session import LongSession
from .resuming import QUICK, items_until
from .scripted_gateway import Conversation, serving
from .shells import Connect


def refuses_features(conversation: Conversation) -> scripts.Answers:
    opening = next(iter(conversation)).open
    if opening.features:
        scripts.refuse(conversation.context, "NOT_IMPLEMENTED_YET", StatusCode.UNIMPLEMENTED)
    yield scripts.opened(opening)
    yield ConverseResponse(item_done=ItemDone(item_id="i1"), seq=2)
    conversation.over.wait(10)


async def test_at_a_gateway_that_does_not_serve_it_the_session_is_plain_and_says_so(connect: Connect) -> None:
    with serving(refuses_features) as gateway:
        async with (
            connect(gateway.address, options=QUICK) as client,
            client.open(correlation_id="c1", resumable=True) as session,
        ):
            assert session.opened.correlation_id == "c1"
            assert is_resumable(session) is False
            assert (await items_until(session, "i1"))[0] == ["i1"]


async def test_who_does_not_say_gets_a_resumable_session_where_it_is_served(connect: Connect) -> None:
    long = LongSession()
    with serving(long.script) as gateway:
        async with connect(gateway.address) as client:
            async with client.open() as session:
                assert is_resumable(session)
            async with client.open(resumable=False) as session:
                assert is_resumable(session) is False


def is_resumable(session: AsyncSession) -> bool:
    """Ask a session of either kind."""
    blocking = getattr(session, "blocking", session)
    return bool(blocking.is_resumable)


def refuses_all(conversation: Conversation) -> scripts.Answers:
    next(iter(conversation))
    scripts.refuse(conversation.context, "NOT_IMPLEMENTED_YET", StatusCode.UNIMPLEMENTED)
    yield scripts.opened()


async def test_what_is_refused_without_features_too_is_refused(connect: Connect) -> None:
    with serving(refuses_all) as gateway:
        async with connect(gateway.address) as client:
            with pytest.raises(GatewayError, match="NOT_IMPLEMENTED_YET"):
                await client.open(resumable=True).__aenter__()
            asked = [len(gateway.conversation().received) for _ in range(2)]
    assert asked == [1, 1]


def loses_what_it_reads(conversation: Conversation) -> scripts.Answers:
    next(iter(conversation))
    conversation.context.abort(StatusCode.UNAVAILABLE, "cut")
    yield scripts.opened()


async def test_an_open_whose_stream_is_lost_may_have_happened_and_is_not_sent_again(connect: Connect) -> None:
    with serving(loses_what_it_reads) as gateway:
        async with connect(gateway.address) as client:
            with pytest.raises(ConnectionLost, match="CONNECTION_LOST"):
                await client.open(resumable=True).__aenter__()
            gateway.conversation()
            assert gateway.conversations_begun == 1
