"""What is said of spoken turns whose words nobody has written down when their line or their gateway is lost."""

import asyncio
import json
import signal
from collections.abc import Mapping
from typing import Any, Final

from trunkline.v1 import control_pb2 as control
from trunkline_client import AsyncClient
from trunkline_client.events import Error, InputCommitted, RawServerEvent, StateChanged

from gateway.simulator import speech
from tests.chaos.caller import Caller, connected, living
from tests.chaos.figures import Outcome, Size
from tests.chaos.gateways import POOLS, gateways
from tests.chaos.slow_kills import again
from tests.chaos.validator import judge
from tests.support.fleet import Fleet

FRAME_BYTES: Final = 4_800
TURN_BYTES: Final = 3 * FRAME_BYTES
TURNS: Final = 2
COPIES: Final = 2
# By now the words of every turn are there whose transcription is neither late nor failing.
MOMENT_SECONDS: Final = 0.3
# Four words, each so long behind the one before: a transcript comes five seconds late, on every other line.
LATE: Final = "slow-deltas:ms=1700,probability=0.5"
_PCM: Final = {"type": "audio/pcm", "rate": 24_000}
# One template writes nothing down, the other does, unless its caller asks otherwise.
CHANGES: Final[Mapping[str, Any]] = {
    "templates": {
        "default": {},
        "unwritten": {
            "session": {
                "output_modalities": ["text"],
                "audio": {"input": {"format": _PCM, "turn_detection": None}, "output": {"format": _PCM}},
            },
            "recovery": {"user_turns": "none"},
        },
    },
    "pools": {"default": POOLS["default"], "unwritten": POOLS["default"]},
}
_BY_HAND: Final = control.TurnDetection(none=control.NoTurnDetection())
WRITTEN: Final = control.SessionOverrides(turn_detection=_BY_HAND)
SWITCHED_OFF: Final = control.SessionOverrides(turn_detection=_BY_HAND, transcription=control.Transcription())
# Template, what is changed of it, and what is said: of silence the transcription fails.
SPOKEN: Final = speech.questions()[0].pcm[:TURN_BYTES]
KINDS: Final = {
    "late": ("default", WRITTEN, SPOKEN),
    "failing": ("default", WRITTEN, bytes(TURN_BYTES)),
    "switched-off": ("default", SWITCHED_OFF, SPOKEN),
    "unwritten": ("unwritten", None, SPOKEN),
}


async def unrestored(size: Size) -> Outcome:
    """Cut lines and kill gateways behind spoken turns; of each the new line knows, or the caller was told."""
    rounds = size.of(6, 2)
    made, silent, counts = list[Caller](), list[str](), {"turns": 0, "held": 0, "named": 0, "silent": 0}
    async with gateways(2, simulated={"faults": [LATE]}, **CHANGES) as (running, address):
        for number in range(rounds):
            # One connection: all of them are at one gateway.
            async with connected(address, 1) as (client,):
                present = _callers(client, f"u{number}")
                async with living(present):
                    await asyncio.gather(*(_speak(each, KINDS[_kind(each)][2]) for each in present))
                    await asyncio.sleep(MOMENT_SECONDS)
                    silent += await _struck(running, present, counts, kills=bool(number % 2))
            made += present
    gone = counts["named"] + counts["silent"]
    verdict = judge(each.history for each in made)
    verdict.faults += [f"nobody was told that {each} is gone" for each in silent]
    verdict.faults += [] if gone else ["every turn was restored: nothing was there to be named"]
    figures = {"unrestored_named_ratio": counts["named"] / max(1, gone), "unrestored": counts}
    return Outcome(figures, rounds, verdict)


def _callers(client: AsyncClient, name: str) -> list[Caller]:
    return [
        Caller(client, f"{name}-{kind}-{copy}", overrides, template)
        for copy in range(COPIES)
        for kind, (template, overrides, _) in KINDS.items()
    ]


def _kind(caller: Caller) -> str:
    return caller.name.split("-", 1)[1].rsplit("-", 1)[0]


async def _speak(caller: Caller, pcm: bytes) -> None:
    """Say some turns; return when the last one is committed."""
    for number in range(TURNS):
        for at in range(0, len(pcm), FRAME_BYTES):
            await caller.session.send_audio(pcm[at : at + FRAME_BYTES])
        await caller.session.commit()
        await caller.until_counted(InputCommitted, number + 1)


async def _struck(running: Fleet, present: list[Caller], counts: dict[str, int], *, kills: bool) -> list[str]:
    """Take all lines away, or the gateway; count what became of the turns, and return those nobody speaks of."""
    owner = present[0].owner
    assert {each.owner for each in present} == {owner}
    before = [len(each.events) for each in present]
    if kills:
        running.gateways[owner].send(signal.SIGKILL)
    else:
        await asyncio.to_thread(running.provider.close)
    for each, since in zip(present, before, strict=True):
        await each.next(StateChanged, since, _is_replaced)
    silent = list[str]()
    for each, (held, missing) in zip(present, await asyncio.gather(*map(_holes, present)), strict=True):
        hidden = [item_id for item_id in missing if item_id not in each.history.unrestored]
        silent += [f"{item_id} of {each.name}" for item_id in hidden]
        counts["turns"] += held + len(missing)
        counts["held"] += held
        counts["named"] += len(missing) - len(hidden)
        counts["silent"] += len(hidden)
    if kills:
        await asyncio.to_thread(again, running, owner)
    return silent


def _is_replaced(changed: StateChanged) -> bool:
    return changed.cause == "line_replaced"


async def _holes(caller: Caller) -> tuple[int, list[str]]:
    """Ask the present line for each turn that the caller was told of; return how many it has, and those it has not."""
    committed = [event.item_id for _, event in caller.events if isinstance(event, InputCommitted)]
    missing = [item_id for item_id in committed if not await _is_held(caller, item_id)]
    return len(committed) - len(missing), missing


async def _is_held(caller: Caller, item_id: str) -> bool:
    """Tell whether the line has an item with content: its words, or its sound, which is never sent back."""
    since = len(caller.events)
    await caller.session.send_raw({"type": "conversation.item.retrieve", "item_id": item_id})

    def answered() -> tuple[str, Any] | None:
        for _, event in caller.events[since:]:
            if isinstance(event, Error):
                return event.message, None
            if isinstance(event, RawServerEvent) and (found := json.loads(event.json)).get("item", {}).get("id"):
                return "", found["item"]
        return None

    _, item = await caller.until(answered, f"the line has answered about {item_id}")
    return item is not None and item["id"] == item_id and bool(item["content"])
