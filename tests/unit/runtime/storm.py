"""A caller that keeps talking while its gateways, its streams, its lines and their store are taken from it.

Everything is the real code but for the ends of the world: the provider, the store's server, the transport. Time is
virtual, and chance comes from a seed: a history that fails comes again.
"""

import asyncio
import itertools
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from gateway.core import events as out
from gateway.core.errors import GatewayError, Reason, StoreError
from gateway.core.recovery import RecoveryOptions
from gateway.runtime.ports import Claimed, LogEntry, SessionKey
from tests.support.virtual_time import turns
from tests.unit.runtime.fakes import Caller, Line, Sealer, Store
from tests.unit.runtime.resuming import BEAT_SECONDS
from tests.unit.runtime.stage import Form, Stage

TRIES_MAX: Final = 60
TRY_AGAIN_SECONDS: Final = 0.3
# Timers of one moment come in any order.
TICK_SECONDS: Final = 1e-6
# Until everything that is due has come.
END_SECONDS: Final = 120.0
# A log that is cut at its end has so many of its words at least.
NEWEST: Final = 2
CALM_SECONDS: Final = 10.0
_MOMENTS: Final = itertools.count(1)
LATER: Final = frozenset({Reason.DRAINING, Reason.OVERLOADED, Reason.STORE_UNAVAILABLE, Reason.RATE_LIMITED})


class Provider(Line):
    """A line that does what it is asked, a moment later."""

    rng = Random(0)
    sent_at = _due = 0.0

    async def send(self, frame: bytes) -> None:
        await super().send(frame)
        self.sent_at = next(_MOMENTS)
        event = self.sent[-1]
        match event["type"]:
            case "session.update":
                self._later("session.updated", session={"type": "realtime", **event["session"]})
            case "conversation.item.create":
                self._later("conversation.item.done", item=event["item"])
            case "response.create":
                self._answer(f"r{next(_MOMENTS)}")

    def _answer(self, name: str) -> None:
        item = {"id": f"{name}-i", "type": "message", "role": "assistant", "content": []}
        self._later("response.created", response={"id": name})
        self._later("response.output_audio.delta", response_id=name, item_id=item["id"], delta="AAAA")
        self._later("conversation.item.done", item=item)
        self._later("response.done", response={"id": name, "status": "completed"})

    def _later(self, kind: str, **fields: Any) -> None:
        loop = asyncio.get_running_loop()
        self._due = max(self._due, loop.time()) + self.rng.choice((0.0, 0.0, 0.001, 0.05)) + TICK_SECONDS
        loop.call_at(self._due, lambda: self.tell(kind, **fields))


class Link(Store):
    """One gateway's way to the store that all share."""

    def __init__(self, server: Store) -> None:
        super().__init__()
        self._server = server
        self.durability = out.Durability.REPLICATED
        self.is_cut = False

    def _check(self) -> None:
        if self.is_cut:
            raise StoreError(Reason.STORE_UNAVAILABLE, "there is no way to the store")

    async def append(
        self, key: SessionKey, epoch: int, entries: Sequence[LogEntry], *, anew: bool = False, own_from: int = 1
    ) -> int:
        self._check()
        await asyncio.sleep(0)
        return await self._server.append(key, epoch, entries, anew=anew, own_from=own_from)

    async def claim(
        self, key: SessionKey, token_epoch: int, last_seq: int, epochs: Sequence[out.EpochStart]
    ) -> Claimed | None:
        self._check()
        await asyncio.sleep(0)
        claimed = await self._server.claim(key, token_epoch, last_seq, epochs)
        await asyncio.sleep(0)
        self._check()  # the answer may be lost
        return claimed

    async def read(self, key: SessionKey, from_seq: int = 1) -> list[LogEntry]:
        self._check()
        await asyncio.sleep(0)
        return await self._server.read(key, from_seq)

    async def finish(self, key: SessionKey, epoch: int) -> None:
        self._check()
        await self._server.finish(key, epoch)


class Storm:
    """One session's world."""

    def __init__(self, seed: int, entries_max: int | None = None) -> None:
        self.rng = Random(seed)
        self.server, self.form, self.sealer = Store(), Form(), Sealer()
        self.server.entries_max = entries_max
        self.gateways: list[Stage] = []
        self.gone: list[Stage] = []
        self.faults: list[str] = []
        self.caller = Caller()
        self.streams: list[Caller] = []
        self.call: asyncio.Task[GatewayError | None] | None = None
        self.owner: Stage | None = None
        self.sent: list[out.Control] = []
        self.words: list[str] = []
        self.gaps: list[tuple[int, int]] = []
        # How often the session moved to where a line had been made ready.
        self.moves = 0

    # The world.

    async def add_gateway(self) -> Stage:
        number = len(self.gateways) + len(self.gone)
        made = Stage(store=Link(self.server), form=self.form, sealer=self.sealer, gateway=f"gateway-{number}")
        made.exchange.line = Provider
        made.limit(recovery=RecoveryOptions(young_max=1000))  # a line may be cut as soon as it is there
        Provider.rng = self.rng
        await made.warm()
        self.gateways.append(made)
        return made

    async def begin(self) -> None:
        for _ in range(2):
            await self.add_gateway()
        self.owner = self.gateways[0]
        self.caller.beat_seconds = BEAT_SECONDS
        self.caller.say(out.OpenRequest(resumable=True))
        self.call = self.owner.serve(self.caller)
        await self.caller.until(out.Opened)
        while not self.server.log:  # noqa: ASYNC110 what dies before is no session yet
            await asyncio.sleep(0.01)

    async def clear(self) -> None:
        self.server.failure = None
        self.server.may_store.set()
        for each in (*self.gateways, *self.gone):
            await each.clear()

    # The caller.

    @property
    def got(self) -> list[out.Outgoing]:
        return [each for caller in (*self.streams, self.caller) for each in caller.got]

    @property
    def last_seq(self) -> int:
        return max((each.seq for each in self.got), default=0)

    def control(self, kind: str, **fields: Any) -> None:
        control = out.Control(({"type": kind, **fields},), len(self.sent) + 1)
        self.sent.append(control)
        self.caller.say(control)

    def say(self) -> None:
        self.words.append(f"word {len(self.words)}")
        content = [{"type": "input_text", "text": self.words[-1]}]
        self.control("conversation.item.create", item={"type": "message", "role": "user", "content": content})

    @property
    def is_lost(self) -> bool:
        return self.call is None or self.call.done() or self.caller.gone

    async def lose_stream(self) -> None:
        self.caller.gone = True
        if self.call is not None:
            self.call.cancel()
            await asyncio.gather(self.call, return_exceptions=True)

    async def come_back(self) -> None:
        """Ask one gateway after the other, as a client does."""
        for _ in range(TRIES_MAX):
            if await self._resumed(self.rng.choice(self.gateways)):
                return
            await asyncio.sleep(self.rng.random() * TRY_AGAIN_SECONDS)
        raise AssertionError("nobody takes the session")

    def request(self, *, prepares: bool = False) -> out.ResumeRequest:
        told = [each.event for each in self.got]
        token = next(e.resume_token for e in reversed(told) if isinstance(e, out.Opened | out.Resumed | out.Token))
        return out.ResumeRequest(token=token, prepares=prepares, last_seq=self.last_seq)

    async def _resumed(self, gateway: Stage) -> bool:
        caller = Caller()
        return await self._goes_on(gateway, caller, gateway.serve(caller))

    async def _goes_on(self, gateway: Stage, caller: Caller, call: "asyncio.Task[GatewayError | None]") -> bool:
        """Let another stream carry the session from now on, if it is taken."""
        caller.say(self.request())
        caller.beat_seconds = BEAT_SECONDS
        self.streams.append(self.caller)
        self.caller, self.call = caller, call
        while not self.caller.got and not self.call.done():  # noqa: ASYNC110 either may come
            await asyncio.sleep(0.01)
        if not self.caller.got:
            error = self.call.result()
            assert error is not None
            assert error.reason in LATER, f"{error.reason}: {error.message}"
            return False
        resumed = self.caller.got[0].event
        assert isinstance(resumed, out.Resumed), resumed
        self.owner = gateway
        if resumed.gap_to:
            self.gaps.append((resumed.gap_from, resumed.gap_to))
        for control in self.sent[resumed.next_cseq - 1 :]:
            self.caller.say(control)
        return True

    # Faults.

    async def strike(self, fault: str) -> None:
        self.faults.append(fault)
        await getattr(self, fault)()

    async def drop(self) -> None:
        """The stream is lost, and nothing else."""
        await self.lose_stream()

    async def kill(self) -> None:
        """The gateway is gone: nothing that it does counts any more."""
        assert self.owner is not None
        await self.add_gateway()
        self.gateways.remove(self.owner)
        self.gone.append(self.owner)
        link = self.owner.parts.lanes.store
        assert isinstance(link, Link)
        link.is_cut = True
        for line in self.owner.exchange.lines:
            line.lose()
        await self.lose_stream()

    async def cut_line(self) -> None:
        assert self.owner is not None
        for line in self.owner.exchange.lines:
            line.lose()

    async def move(self) -> None:
        """Have a line made ready at a gateway, talk on for a while, and go there."""
        gateway, ready = self.rng.choice(self.gateways), Caller()
        ready.say(self.request(prepares=True))
        call = gateway.serve(ready)
        while not ready.got and not call.done():  # noqa: ASYNC110 either may come
            await asyncio.sleep(0.01)
        for _ in range(self.rng.randrange(3)):
            self.say()
            await turns(self.rng.randrange(20))
        if self.rng.random() < 0.5:
            await self.strike(self.rng.choice(("drop", "kill", "cut_line", "stop_store")))
        await asyncio.sleep(self.rng.choice((0.0, 0.3, 2.0)))
        if call.done() or gateway not in self.gateways:
            call.cancel()
            return
        assert isinstance(ready.got.pop(0).event, out.Prepared)
        before, self.caller.gone = self.call, True  # what still comes there does not count any more
        self.moves += await self._goes_on(gateway, ready, call)
        if before is not None:
            before.cancel()

    async def stop_store(self) -> None:
        """It says nothing any more, for a while."""
        self.server.may_store.clear()
        asyncio.get_running_loop().call_later(self.rng.choice((0.1, 1.0, 4.0)), self.server.may_store.set)

    async def drain(self) -> None:
        assert self.owner is not None
        await self.add_gateway()
        self.gateways.remove(self.owner)
        self.gone.append(self.owner)
        await self.owner.directory.drain(self.rng.choice((0.0, 1.0)))
        await turns(5)


FAULTS: Final = ("drop", "drop", "kill", "cut_line", "stop_store", "drain", "move", "move")


async def live(storm: Storm, steps: int, faults: Sequence[str] = FAULTS) -> None:
    """Talk through a number of steps, each of which may be struck at any turn of the loop; then say goodbye."""
    rng = storm.rng
    for _ in range(steps):
        if storm.is_lost:
            await storm.come_back()
        storm.say()
        if rng.random() < 0.4:
            storm.control("response.create")
        await turns(rng.randrange(30))
        if rng.random() < 0.6:
            await storm.strike(rng.choice(faults))
        await asyncio.sleep(rng.choice((0.0, 0.0, 0.01, 0.3, 2.0)))
    await end(storm)


async def end(storm: Storm) -> None:
    """Say goodbye on a stream that lasts, and hear everything."""
    storm.server.may_store.set()
    if storm.is_lost:
        await storm.come_back()
    await asyncio.sleep(CALM_SECONDS)  # an item that nobody asks to be answered is not due behind a goodbye
    async with asyncio.timeout(END_SECONDS):
        while True:
            if storm.is_lost:
                await storm.come_back()
            storm.caller.say(out.Bye(cseq=len(storm.sent) + 1))
            assert storm.call is not None
            while not storm.call.done() and out.Closed not in storm.caller.kinds():  # noqa: ASYNC110 either may come
                await asyncio.sleep(0.05)
            if out.Closed in storm.caller.kinds():
                storm.caller.acknowledge()
                assert await storm.call is None
                return


def judge(storm: Storm) -> None:
    """Every word is known to the last line once, in order; every event came, or is named as lost."""
    assert storm.owner is not None
    last = max(
        (line for line in storm.owner.exchange.lines if isinstance(line, Provider)), key=lambda each: each.sent_at
    )
    known = _words(last)
    if storm.server.entries_max is not None:  # what was too long ago is forgotten with its gateway, and nothing else
        assert len(known) >= NEWEST, f"{known} of {storm.words}"
        known = storm.words[: -len(known)] + known
    assert known == storm.words, f"{known} of {storm.words}"
    came = {each.seq for each in storm.got if each.seq}
    lost = {seq for begins, ends in storm.gaps for seq in range(begins, ends + 1)}
    assert came | lost == set(range(1, storm.last_seq + 1))
    # What is told before it is stored may be forgotten with its gateway, and then it happens again.
    items = {
        each.seq: each.event.item_id
        for each in storm.got
        if isinstance(each.event, out.ItemDone) and each.durable is not False
    }
    assert len(items) == len(set(items.values())), f"an item came twice: {items}"


def _words(line: Line) -> list[str]:
    created = [event["item"] for event in line.sent if event["type"] == "conversation.item.create"]
    return [item["content"][0]["text"] for item in created if item["role"] == "user"]
