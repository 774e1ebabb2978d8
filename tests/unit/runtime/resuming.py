"""A caller that comes back: what it says, keeps and counts."""

import asyncio
from typing import Any

from gateway.core import events as out
from gateway.core.errors import GatewayError
from tests.support.virtual_time import turns
from tests.unit.runtime.fakes import ACME, Caller
from tests.unit.runtime.stage import Stage
from tests.unit.runtime.talk import Call

BEAT_SECONDS = 0.9


class Phone:
    """One resumable session, as its caller has it, over all streams."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.caller = Caller()
        self.call: Call | None = None
        self.past: list[Caller] = []
        self.cseq = 0

    async def open(self, **request: Any) -> None:
        self.caller.beat_seconds = BEAT_SECONDS
        self.caller.say(out.OpenRequest(resumable=True, **request))
        self.call = self.stage.serve(self.caller)
        await self.caller.until(out.Opened)

    @property
    def token(self) -> str:
        """The newest that came."""
        told = [event for caller in (*self.past, self.caller) for event in caller.events()]
        return next(e.resume_token for e in reversed(told) if isinstance(e, out.Opened | out.Resumed | out.Token))

    @property
    def applied(self) -> list[out.Outgoing]:
        """Numbered events, each once, in the order in which they came."""
        found: dict[int, out.Outgoing] = {}
        for each in (each for caller in (*self.past, self.caller) for each in caller.got if each.seq):
            found.setdefault(each.seq, each)
        assert list(found) == sorted(found), f"out of order: {list(found)}"
        return list(found.values())

    @property
    def last_seq(self) -> int:
        return max((each.seq for each in self.applied), default=0)

    @property
    def resumed(self) -> out.Resumed:
        """What came first on the stream that carries the session now."""
        first = self.caller.got[0].event
        assert isinstance(first, out.Resumed), f"the first word is {first}"
        return first

    def control(self, kind: str, **fields: Any) -> None:
        self.cseq += 1
        self.caller.control(kind, self.cseq, **fields)

    def say(self, words: str) -> None:
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": words}]}
        self.control("conversation.item.create", item=item)

    def bye(self, *, now: bool = False) -> None:
        self.cseq += 1
        self.caller.say(out.Bye(now, self.cseq))

    async def drop(self) -> None:
        """Lose the stream, as the network does: the call is cancelled at the gateway."""
        assert self.call is not None
        self.caller.gone = True
        self.call.cancel()
        await asyncio.gather(self.call, return_exceptions=True)
        await turns(6)

    def resume(self, **request: Any) -> Call:
        """Come back on a new stream with what was last known."""
        asked = {"token": self.token, "last_seq": self.last_seq, **request}
        self.past.append(self.caller)
        self.caller = Caller(ACME)
        self.caller.beat_seconds = BEAT_SECONDS
        self.caller.say(out.ResumeRequest(**asked))
        self.call = self.stage.serve(self.caller)
        return self.call

    async def come_back(self, **request: Any) -> out.Resumed:
        self.resume(**request)
        await self.caller.until(out.Resumed)
        return self.resumed

    async def hang_up(self) -> GatewayError | None:
        """Say goodbye and hear everything."""
        assert self.call is not None
        self.bye()
        await self.caller.until(out.Closed)
        self.caller.acknowledge()
        return await self.call
