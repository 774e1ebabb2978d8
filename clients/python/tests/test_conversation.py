"""What both clients do in a conversation that goes well."""

import asyncio

import pytest
from trunkline.v1.control_pb2 import OUTPUT_MODALITY_TEXT, ROLE_SYSTEM
from trunkline.v1.event_pb2 import CLOSED_REASON_BYE, CLOSED_REASON_BYE_NOW, CLOSED_REASON_IDLE

from trunkline_client import CallerError, SessionOverrides
from trunkline_client.events import Closed, Error, Event, OutputAudio, Queued, ResponseDone
from trunkline_client.inputs import Greet, HistoryItem

from . import scripts
from .scripted_gateway import serving
from .shells import Connect, events_of, names_of


async def test_a_text_turn_goes_through_in_order(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client, client.open(resumable=False, correlation_id="c1") as session:
            assert (session.id, session.opened.correlation_id) == ("s1", "c1")
            await session.send_text("Hello")
            await session.create_response()
            events: list[Event] = []
            async for event in session:
                events.append(event)
                if isinstance(event, ResponseDone):
                    break
        assert names_of(events) == [
            "ResponseCreated",
            "TranscriptDelta",
            *["OutputAudio"] * 3,
            "ItemDone",
            "ResponseDone",
        ]
        assert gateway.conversation().kinds() == ["open", "control", "control", "bye"]


async def test_leaving_the_block_says_bye_now_and_waits_for_closed(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client, client.open(resumable=False) as session:
            pass
        assert session.closed is not None
        assert session.closed.reason == CLOSED_REASON_BYE_NOW
        conversation = gateway.conversation()
        assert conversation.over.wait(5)
        assert conversation.finished
        assert conversation.received[-1].bye.now


async def test_audio_arrives_in_the_order_in_which_it_was_sent(connect: Connect) -> None:
    sent = [number.to_bytes(2, "big") * 480 for number in range(200)]
    with serving(scripts.echo) as gateway:
        async with connect(gateway.address) as client, client.open(resumable=False) as session:

            async def speak() -> None:
                for chunk in sent:
                    await session.send_audio(chunk)
                await session.end_input()

            speaking = asyncio.create_task(speak())
            heard = [event.data async for event in session if isinstance(event, OutputAudio)]
            await speaking
    assert heard == sent


async def test_end_input_finishes_what_is_due_and_iteration_ends_after_closed(
    connect: Connect,
) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client, client.open(resumable=False) as session:
            await session.create_response()
            await session.end_input()
            events = await events_of(session)
            assert await events_of(session) == []
    assert names_of(events)[-2:] == ["ResponseDone", "Closed"]
    assert session.closed == events[-1]
    assert session.closed is not None
    assert session.closed.reason == CLOSED_REASON_BYE


async def test_nothing_is_lost_when_more_comes_than_the_buffers_hold(connect: Connect) -> None:
    with serving(scripts.flood) as gateway:
        async with connect(gateway.address) as client, client.open(resumable=False) as session:
            positions = []
            async for event in session:
                assert isinstance(event, OutputAudio)
                positions.append(event.position)
                if len(positions) == 400:
                    break
    assert positions == list(range(400))


async def test_closing_does_not_wait_for_someone_to_read(connect: Connect) -> None:
    with serving(scripts.flood) as gateway:
        async with connect(gateway.address) as client, client.open(resumable=False) as session:
            pass
        assert session.closed is not None


async def test_places_in_the_queue_are_told_before_opened(connect: Connect) -> None:
    places: list[Queued] = []
    with serving(scripts.queued_first) as gateway:
        async with (
            connect(gateway.address) as client,
            client.open(resumable=False, on_queued=places.append) as session,
        ):
            assert session.id == "s1"
    assert [place.position for place in places] == [3, 1]


async def test_open_carries_everything_that_can_differ(connect: Connect) -> None:
    overrides = SessionOverrides(voice="marin", instructions="Be kind.")
    with serving(scripts.text_turn) as gateway:
        async with (
            connect(gateway.address) as client,
            client.open(
                "support",
                resumable=False,
                overrides=overrides,
                instructions="Be brief.",
                correlation_id="c1",
                metadata={"line": "7"},
                history=[HistoryItem(text="Earlier.")],
                lease_token="L1",
                safety_identifier="abc",
                greet=Greet(instructions="Say hello."),
                wait_max_ms=500,
                life_max_seconds=60,
                idle_max_seconds=30,
            ),
        ):
            pass
        message = gateway.conversation().received[0].open
    assert (message.template, message.overrides.voice, message.overrides.instructions) == (
        "support",
        "marin",
        "Be brief.",
    )
    assert overrides.instructions == "Be kind."
    assert (message.correlation_id, message.metadata["line"], message.history[0].text) == (
        "c1",
        "7",
        "Earlier.",
    )
    assert (message.lease_token, message.safety_identifier, message.greet.instructions) == (
        "L1",
        "abc",
        "Say hello.",
    )
    assert (message.wait_max_ms, message.life_max_seconds, message.idle_max_seconds) == (
        500,
        60,
        30,
    )
    assert not message.features


async def test_controls_are_numbered_and_say_what_was_asked(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client, client.open(resumable=False) as session:
            numbers = [
                await session.send_text("Rules.", role="system", item_id="i0"),
                await session.commit(),
                await session.clear(),
                await session.create_response(instructions="Sing.", text_only=True, metadata={"a": "b"}),
                await session.cancel("r1"),
                await session.truncate("i1", 1500),
                await session.send_tool_result("call1", "{}", create_response=False),
                await session.update(SessionOverrides(speed=1.5)),
                await session.send_raw({"type": "input_audio_buffer.clear"}),
                await session.send_raw('{"type": "x"}'),
            ]
        received = gateway.conversation().received[1:-1]
    assert numbers == [request.cseq for request in received] == list(range(1, 11))
    controls = [request.control for request in received]
    assert (controls[0].text.text, controls[0].text.role, controls[0].text.item_id) == (
        "Rules.",
        ROLE_SYSTEM,
        "i0",
    )
    assert [control.WhichOneof("control") for control in controls[1:3]] == ["commit", "clear"]
    assert controls[3].create_response.instructions == "Sing."
    assert controls[3].create_response.output_modality == OUTPUT_MODALITY_TEXT
    assert controls[3].create_response.metadata["a"] == "b"
    assert controls[4].cancel.response_id == "r1"
    assert (controls[5].truncate.item_id, controls[5].truncate.audio_end_ms) == ("i1", 1500)
    assert (controls[6].tool_result.call_id, controls[6].tool_result.create_response) == (
        "call1",
        False,
    )
    assert controls[7].update_session.overrides.speed == 1.5
    assert controls[8].raw.json == '{"type": "input_audio_buffer.clear"}'
    assert controls[9].raw.json == '{"type": "x"}'


async def test_a_refused_request_is_an_event_that_names_its_number(connect: Connect) -> None:
    with serving(scripts.complains) as gateway:
        async with connect(gateway.address) as client, client.open(resumable=False) as session:
            await session.commit()
            number = await session.clear()
            await session.end_input()
            errors = [event for event in await events_of(session) if isinstance(event, Error)]
    assert errors[-1].cseq == number == 2


async def test_a_session_that_the_gateway_ends_in_order_is_no_error(connect: Connect) -> None:
    with serving(scripts.idle_end) as gateway:
        async with connect(gateway.address) as client, client.open(resumable=False) as session:
            events = await events_of(session)
            with pytest.raises(CallerError) as refused:
                await session.send_audio(b"too late")
    assert isinstance(events[0], Closed)
    assert events[0].reason == CLOSED_REASON_IDLE
    assert refused.value.reason == "NOT_OPEN"


async def test_sessions_of_one_client_do_not_touch_each_other(connect: Connect) -> None:
    with serving(scripts.echo) as gateway:
        async with (
            connect(gateway.address) as client,
            client.open(resumable=False) as first,
            client.open(resumable=False) as second,
        ):
            await first.send_audio(b"1")
            await second.send_audio(b"2")
            await first.end_input()
            await second.end_input()
            assert [event.data for event in await events_of(second) if isinstance(event, OutputAudio)] == [b"2"]
            assert [event.data for event in await events_of(first) if isinstance(event, OutputAudio)] == [b"1"]


async def test_many_may_send_at_once(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client, client.open(resumable=False) as session:
            numbers = await asyncio.gather(*(session.commit() for _ in range(50)))
        received = gateway.conversation().received[1:-1]
    assert sorted(numbers) == [request.cseq for request in received] == list(range(1, 51))


async def test_a_session_outside_of_its_block_is_not_open(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client:
            session = client.open(resumable=False)
            with pytest.raises(CallerError, match="NOT_OPEN"):
                await session.send_text("Hello")
            with pytest.raises(CallerError, match="NOT_OPEN"):
                await anext(session)
            with pytest.raises(CallerError, match="NOT_OPEN"):
                _ = session.id
            await session.close()
            async with session:
                await session.end_input()
                with pytest.raises(CallerError, match="NOT_OPEN"):
                    await session.commit()
            with pytest.raises(CallerError, match="ALREADY_OPEN"):
                await session.__aenter__()
            with pytest.raises(CallerError, match="NOT_OPEN"):
                await session.send_audio(b"x")


async def test_a_message_above_the_limit_is_refused_here_and_the_session_goes_on(
    connect: Connect,
) -> None:
    with serving(scripts.echo) as gateway:
        async with connect(gateway.address) as client, client.open(resumable=False) as session:
            with pytest.raises(CallerError, match="MESSAGE_TOO_LARGE"):
                await session.send_audio(bytes(65_537))
            with pytest.raises(CallerError, match="MESSAGE_TOO_LARGE"):
                await session.send_text("x" * 65_537)
            await session.send_audio(bytes(65_536))
            await session.end_input()
            events = await events_of(session)
    assert names_of(events) == ["OutputAudio", "Closed"]
