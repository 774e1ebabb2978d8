"""Whoever floods a gateway is held to his limits, and the other callers hardly notice.

How they fare is compared in one run, window by window, and a test fails when the data contradict the bound: the
neighbours of a test machine move the last hundredth as much as an attack may. `python -m tests.bench.floods` takes
the time that figures need.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from tests.support import attacks
from tests.support.attacks import SOCKETS
from tests.support.counted_gateway import COMMAND
from tests.support.counts import counts
from tests.support.flood import Outcome, attacker
from tests.support.processes import on_linux
from tests.support.rig import SERVE, rig
from tests.support.siege import Fared, siege
from tests.support.slots import figures
from tests.support.stack import channel_to, pool
from tests.support.steering import Operator
from tests.support.talkers import talking, troubles

pytestmark = [on_linux, pytest.mark.heavy, pytest.mark.timeout(280)]

WINDOW_SECONDS: Final = 8.0
LEAST: Final = 300
# Others' slowest hundredth may take so many times as long as in calm.
RATIO_MAX: Final = 1.1
# A neighbour can spoil a measurement, and no more than that.
TRIES: Final = 3
CLOSED_SECONDS: Final = 6.0
# What a connection takes before it has said anything is the transport's.
GROWTH_MAX_KIB: Final = defaultdict(lambda: 32 << 10, SILENT=64 << 10, TLS_STALLED=128 << 10, NEVER_OPENED=96 << 10)
# What a stream may send in a window: 500 pieces at once and 200 a second, and what lies in HTTP/2's own windows.
AUDIO_MESSAGES_MAX: Final = 500 + 200 * 8 + 200
SESSION: Final = "gateway.runtime.session.LiveSession"
LOG_ENTRY: Final = "gateway.runtime.ports.LogEntry"


async def fared(name: str) -> Fared:
    """Let an attack come over a gateway; return how the others fared, in the best of several tries."""
    async with siege(tls=name.startswith("TLS")) as running:
        for number in range(1, TRIES + 1):
            found = await running.run(WINDOW_SECONDS, 1, getattr(attacks, name))
            figures(name.lower().replace("_", " "), measured=number, **found.figures())
            if found.open_ratio.low <= RATIO_MAX and not troubles(found.attacked):
                break
    assert min(len(found.calm), len(found.attacked)) >= LEAST
    assert troubles(found.attacked) == {}
    assert found.open_ratio.low <= RATIO_MAX, found.open_ratio
    assert found.resident_growth_kib <= GROWTH_MAX_KIB[name]
    return found


async def survived(name: str) -> Outcome:
    """Let an attack come that costs the others something, and them no more than time."""
    async with siege() as running:
        found, window = await running.endure(WINDOW_SECONDS, getattr(attacks, name))
    found.attacked = running.talks.between(*window)
    figures(name.lower().replace("_", " "), **found.figures())
    assert len(found.attacked) >= LEAST
    assert troubles(found.attacked) == {}
    assert found.resident_growth_kib <= GROWTH_MAX_KIB[name]
    return found.attacks[-1]


@pytest.mark.parametrize("name", ["SILENT", "TLS_STALLED"])
async def test_two_thousand_sockets_that_say_nothing_are_closed_within_six_seconds_and_slow_nobody(name: str) -> None:
    (attack,) = (await fared(name)).attacks
    assert (attack.opened, attack.closed, attack.left, attack.failed) == (SOCKETS, SOCKETS, 0, 0)
    assert attack.held_max_s is not None
    assert attack.held_max_s <= CLOSED_SECONDS


@pytest.mark.parametrize("name", ["OVER_OUR_LIMIT", "OVER_GRPCS_LIMIT"])
async def test_a_stream_that_sends_too_much_at_a_time_is_ended_and_slows_nobody(name: str) -> None:
    (attack,) = (await fared(name)).attacks
    assert attack.streams_ended == attack.streams > 0


async def test_streams_that_send_as_much_as_they_may_slow_nobody() -> None:
    (attack,) = (await fared("AT_THE_LIMIT")).attacks
    assert attack.streams_ended == 0
    assert 0 < attack.messages <= attack.streams * AUDIO_MESSAGES_MAX


@pytest.mark.parametrize("name", ["NEVER_OPENED", "ANONYMOUS"])
async def test_two_thousand_streams_that_never_open_or_have_no_token_are_ended(name: str) -> None:
    attack = await survived(name)
    assert (attack.streams, attack.streams_ended, attack.left, attack.failed) == (SOCKETS, SOCKETS, 0, 0)
    assert attack.stream_held_max_s <= CLOSED_SECONDS


@pytest.mark.parametrize("name", ["METADATA", "TEXT", "EMPTY"])
async def test_a_stream_that_sends_as_fast_as_it_can_is_ended(name: str) -> None:
    attack = await survived(name)
    assert attack.streams_ended == attack.streams > 0


@pytest.fixture
async def besieged() -> AsyncIterator[Any]:
    command = ("-m", "tests.support.few_descriptors", "1024", *SERVE[1:])
    pools = {"default": pool(floor=16, ceiling=64, dials_max=8)}
    accounts = {"main": {"connections_max": 100, "dials_per_second": 200, "dials_burst": 200}}
    with rig(command=command, pools=pools, accounts=accounts) as measured:
        measured.until_warm(16)
        async with attacker(measured.address) as enemy, talking(measured.address, 20.0, fresh_every=0) as talks:
            yield enemy, talks


async def test_sockets_that_say_nothing_take_no_descriptor_from_those_who_talk(besieged: Any) -> None:
    """A thousand descriptors are what many systems give a service."""
    enemy, talks = besieged
    attack: Outcome = await enemy.carry_out(**{**attacks.SILENT, "seconds": 10.0})
    figures("few descriptors", n=len(talks.had), attack=attack.figures(), trouble=troubles(talks.had))
    assert attack.closed + attack.failed == SOCKETS
    assert attack.seconds > 5, "some of them were let in"
    assert len(talks.had) > 80
    assert troubles(talks.had) == {}


async def test_a_caller_that_never_reads_keeps_nothing_of_its_ended_sessions_in_memory() -> None:
    pools = {"default": pool(floor=4, ceiling=32, dials_max=8)}
    with rig(command=COMMAND, pools=pools) as measured:
        measured.until_warm(4)
        async with attacker(measured.address) as enemy, channel_to(measured.address) as channel:
            operator = Operator(channel)
            attacking = asyncio.create_task(enemy.carry_out(**{**attacks.UNREAD, "seconds": 90.0}))
            # The attacker has only what is left of the processor: to fill what may wait takes 3 s, or 20.
            async with asyncio.timeout(60):
                while not (await counts(measured)).kinds[SESSION]:  # noqa: ASYNC110 it is another process
                    await asyncio.sleep(0.1)
                while await operator.sessions() or await operator.leases():  # noqa: ASYNC110 the same
                    await asyncio.sleep(0.1)
            held = await counts(measured)
            assert not attacking.done(), "its connection is still there"
            enemy.enough()
            attack = await attacking
    figures("unread", attack=attack.figures(), sessions=held.kinds[SESSION], log_entries=held.kinds[LOG_ENTRY])
    assert (attack.left, attack.streams) == (1, 20)
    assert held.kinds[SESSION] == 0
    assert held.kinds[LOG_ENTRY] <= 1
