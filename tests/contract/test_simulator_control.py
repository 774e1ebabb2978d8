"""The simulator's control endpoints: faults set while it runs, many sockets closed at once, what an observer sees."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from gateway.simulator import Scope, Simulator, SimulatorOptions, fault_from_text
from tests.support.ports import free_port
from tests.support.waiting import eventually

DEADLINE_SECONDS = 10.0
BEARER = {"Authorization": "Bearer sk-simulated"}

Json = dict[str, Any]
Peer = aiohttp.ClientWebSocketResponse


class Control:
    """A simulator and its endpoints."""

    def __init__(self, simulator: Simulator, http: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self.http = http

    async def get(self, name: str) -> Json:
        async with self.http.get(f"{self.simulator.control_url}/{name}") as answer:
            assert answer.status == 200
            found: Json = await answer.json()
            return found

    async def post(self, name: str, body: object, status: int = 200) -> Json:
        text = {"data": body} if isinstance(body, str) else {"json": body}
        async with self.http.post(f"{self.simulator.control_url}/{name}", **text) as answer:
            assert answer.status == status
            found: Json = await answer.json()
            return found

    @asynccontextmanager
    async def dial(self, query: str = "model=gpt-realtime", **headers: str) -> AsyncIterator[Peer]:
        async with self.http.ws_connect(f"{self.simulator.url}?{query}", headers=BEARER | headers) as peer:
            yield peer


@pytest.fixture
async def control() -> AsyncIterator[Control]:
    async with Simulator(SimulatorOptions(port=free_port())) as running, aiohttp.ClientSession() as http:
        yield Control(running, http)


async def created(peer: Peer) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert (await peer.receive_json())["type"] == "session.created"


async def end(peer: Peer) -> tuple[int | None, str | None]:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (message := await peer.receive()).type is aiohttp.WSMsgType.TEXT:
            pass
    return (message.data, message.extra) if message.type is aiohttp.WSMsgType.CLOSE else (None, None)


async def answers(peer: Peer, seconds: float) -> bool:
    await peer.send_json({"type": "input_audio_buffer.clear"})
    try:
        async with asyncio.timeout(seconds):
            await peer.receive_json()
    except TimeoutError:
        return False
    return True


async def test_the_answer_is_the_active_set_with_how_often_each_was_applied(control: Control) -> None:
    assert await control.get("faults") == {"scope": "new", "faults": []}
    wanted = {"kind": "close", "code": 1012, "at": "first-audio", "probability": 0.5, "count": 3}
    shown = {**wanted, "reason": "", "for_seconds": None, "applied": 0}
    answer = await control.post("faults", {"faults": [wanted], "scope": "new"})
    assert answer == {"scope": "new", "faults": [shown]}
    await control.post("faults", {"faults": [{"kind": "close", "count": 1}]})
    for _ in range(2):
        async with control.dial() as peer:
            await created(peer)
    assert (await control.get("faults"))["faults"][0]["applied"] == 1
    assert await control.post("faults", {"faults": []}) == {"scope": "new", "faults": []}


async def test_new_faults_leave_open_sockets_alone(control: Control) -> None:
    async with control.dial() as peer:
        await created(peer)
        await control.post("faults", {"faults": [{"kind": "close", "at": "now"}]})
        async with control.dial() as other:
            assert (await end(other))[0] == 1011
        assert await answers(peer, DEADLINE_SECONDS)


@pytest.mark.parametrize("at", ["now", "created"])
async def test_all_sockets_can_be_struck_at_once(control: Control, at: str) -> None:
    async with control.dial() as one, control.dial() as two:
        await created(one)
        await created(two)
        close = {"kind": "close", "at": at, "code": 1013, "reason": "later"}
        answer = await control.post("faults", {"faults": [close], "scope": "all"})
        assert answer["faults"][0]["applied"] == 2
        assert await end(one) == await end(two) == (1013, "later")


@pytest.mark.parametrize("kind", ["silence", "half-open"])
async def test_open_sockets_fall_silent_and_heal_when_the_set_is_cleared(control: Control, kind: str) -> None:
    async with control.dial() as peer:
        await created(peer)
        await control.post("faults", {"faults": [{"kind": kind}], "scope": "all"})
        assert not await answers(peer, 0.3)
        assert (await control.get("connections"))["connections"][0]["faults"] == [kind]
        await control.post("faults", {"faults": [], "scope": "all"})
        assert await answers(peer, DEADLINE_SECONDS)


async def test_faults_of_the_opening_strike_no_open_socket(control: Control) -> None:
    async with control.dial() as peer:
        await created(peer)
        answer = await control.post("faults", {"faults": [{"kind": "accept-then-close", "seconds": 0}], "scope": "all"})
        assert answer["faults"][0]["applied"] == 0
        assert await answers(peer, DEADLINE_SECONDS)


async def test_a_socket_that_is_about_to_end_is_not_held_up_by_a_fault(control: Control) -> None:
    late = [fault_from_text("close:at=after-seconds:3600")]
    async with control.dial() as peer:
        await created(peer)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while totals(control)["open"]:
            control.simulator.set_faults(late, Scope.ALL)
            await asyncio.sleep(0)


async def test_many_sockets_are_closed_at_once(control: Control) -> None:
    async with contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(control.dial()) for _ in range(5)]
        for peer in peers:
            await created(peer)
        assert await control.post("close", {"code": 1012, "reason": "restart", "count": 2}) == {"closed": 2}
        assert [await end(peer) for peer in peers[:2]] == [(1012, "restart")] * 2
        await eventually(lambda: totals(control)["open"] == 3, "two are closed")
        assert await control.post("close", {"code": 1006}) == {"closed": 3}
        assert [await end(peer) for peer in peers[2:]] == [(None, None)] * 3
        await eventually(lambda: totals(control)["open"] == 0, "all are closed")
        assert await control.post("close", {}) == {"closed": 0}


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("faults", "{", "the body is not JSON"),
        ("faults", [], "the body must be an object with no keys but faults, scope"),
        ("faults", {"fault": []}, "the body must be an object with no keys but faults, scope"),
        ("faults", {}, "faults must be a list of at most 100 faults"),
        ("faults", {"faults": [{"kind": "close"}] * 101}, "faults must be a list of at most 100 faults"),
        ("faults", {"faults": [], "scope": "some"}, "scope must be one of new, all"),
        ("faults", {"faults": [], "scope": []}, "scope must be one of new, all"),
        ("faults", {"faults": [{"kind": "crash"}]}, "there is no fault 'crash'; there are: accept-then-close"),
        ("faults", {"faults": ["close"]}, "a fault is an object with a kind, not 'close'"),
        ("close", {"code": 17}, "code must be 0 or a close code from 1000 to 4999, not 17"),
        ("close", {"count": 0}, "count must be a whole number from 1"),
        ("close", {"faults": []}, "the body must be an object with no keys but code, reason, count"),
    ],
)
async def test_what_cannot_be_done_is_answered_with_a_sentence(
    control: Control, path: str, body: object, sentence: str
) -> None:
    await control.post("faults", {"faults": [{"kind": "silence"}]})
    answer = await control.post(path, body, status=400)
    assert answer["error"].startswith(sentence)
    assert [each["kind"] for each in (await control.get("faults"))["faults"]] == ["silence"]


async def test_totals_and_times_count_every_handshake(control: Control) -> None:
    start = time.time()
    async with control.dial() as one, control.dial() as two:
        await created(one)
        await created(two)
    for query in ("model=gpt-imaginary", "model=gpt-realtime"):
        await control.post("faults", {"faults": [{"kind": "handshake", "status": 503}]})
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with control.dial(query):
                pytest.fail("accepted")
    await eventually(lambda: totals(control)["open"] == 0, "both have hung up")
    seen = await control.get("connections")
    assert seen["totals"] == {"accepted": 2, "refused": 2, "open": 0, "open_max": 2}
    assert len(seen["handshakes"]) == 4
    assert start - 0.01 <= seen["handshakes"][0] <= seen["handshakes"][-1] <= seen["time"] + 0.01
    assert all(each == round(each, 3) for each in seen["handshakes"])


def totals(control: Control) -> dict[str, int]:
    found = control.simulator.observe()["totals"]
    assert isinstance(found, dict)
    return found
