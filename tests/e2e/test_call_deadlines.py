"""A stream's deadline that comes before the end of the conversation ends the stream, and not the conversation."""

from typing import Final

import grpc
from trunkline.v1 import control_pb2 as control
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import types_pb2 as types

from tests.support.stack import pool, stack

POOLS: Final = {"default": pool(floor=1, ceiling=2, demand={"enabled": False})}
TEXT: Final = control.SessionOverrides(output_modality=control.OUTPUT_MODALITY_TEXT)
# Less than three heartbeats: it is the deadline that ends it.
DEADLINE_SECONDS: Final = 2.0


async def test_a_resumable_session_outlives_the_deadline_of_its_stream() -> None:
    async with stack(pools=POOLS) as (running, _):
        await running.until_warm(1)
        first = running.caller(deadline_seconds=DEADLINE_SECONDS)
        opened = await first.open(features=[types.FEATURE_RESUMABLE], overrides=TEXT)
        await first.ask(cseq=1, text=control.TextInput(text="My name is Marcelo."))
        await first.rest()
        assert (await first.status()).code is grpc.StatusCode.DEADLINE_EXCEEDED
        token = ([each.resume_token for each in first.all("token")] or [opened.resume_token])[-1]
        last_seq = max(each.seq for each in first.seen)
        (notice,) = first.all("go_away")
        assert notice.reason == "deadline"
        assert 0 < notice.deadline_ms <= DEADLINE_SECONDS * 1000

        second = running.caller()
        await second.send(resume=session.Resume(token=token, last_seq=last_seq, last_cseq=1))
        resumed = await second.until("resumed")
        assert resumed.outcome == session.RESUME_OUTCOME_REATTACHED
        assert (resumed.session_id, resumed.next_cseq) == (opened.session_id, 2)
        assert not resumed.HasField("gap")
        await second.ask(cseq=2, text=control.TextInput(text="What is my name?"))
        await second.ask(cseq=3, create_response=control.CreateResponse())
        await second.until("response_done")
        assert "Marcelo" in [each.text for each in second.all("item_done") if each.role == "assistant"][-1]
        await second.send(bye=session.Bye(now=True), cseq=4)
        await second.until("closed")


async def test_a_plain_session_ends_with_its_deadline_and_gives_its_line_back() -> None:
    async with stack(pools=POOLS) as (running, _):
        await running.until_warm(1)
        caller = running.caller(deadline_seconds=1.0)
        await caller.open()
        await caller.rest()
        assert (await caller.status()).code is grpc.StatusCode.DEADLINE_EXCEEDED
        await running.until_free()
        await running.until_warm(1)
