"""The scenarios, as data. What is expected of each stands in test_pool_simulation.py.

The rates have limits that never bind, so that what is seen is the floor that follows demand. The others have
the limits that an operator would have, which are the defaults unless a field says otherwise.
"""

from dataclasses import replace
from typing import Final

from gateway.core.demand import DemandOptions
from gateway.core.pool_limits import PoolLimits
from gateway.store.options import AccountSlots
from tests.bench.pool_world import (
    Bursts,
    DayCurve,
    Exponential,
    Fault,
    LogNormal,
    Poisson,
    Provider,
    Scenario,
    Trouble,
)

MINUTE: Final = 60.0
HOUR: Final = 3600.0
# What a busy deployment would have; the floor stays the default, 2.
AMPLE: Final = PoolLimits(ceiling=400, dials_max=64, waiters_max=500)
AMPLE_ACCOUNT: Final = AccountSlots(100_000, 200.0, 100)
# When troubles begin: the pool has settled by then.
TROUBLE_SECONDS: Final = 60.0


def _rate(name: str, per_second: float, seconds: float, warm_up_seconds: float, call_seconds: float) -> Scenario:
    """Callers at one rate, with limits that never bind: twice what they need on average."""
    at_once = int(per_second * 3.0)
    limits = PoolLimits(
        ceiling=64 + int(2 * per_second * (call_seconds + 3.0)),
        dials_max=16 + 2 * at_once,
        waiters_max=64 + 2 * at_once,
    )
    dials_per_second = 10.0 + 4.0 * per_second
    return Scenario(
        name,
        f"Callers by chance (Poisson), {name}",
        seconds,
        {"default": limits},
        (Poisson(per_second),),
        warm_up_seconds,
        call=Exponential(call_seconds),
        account=AccountSlots(1_000_000, dials_per_second, int(2 * dials_per_second)),
        is_steady=True,
    )


RATES: Final = (
    _rate("0.1 per min", 0.1 / MINUTE, 20 * HOUR, 60.0, 60.0),
    _rate("1 per min", 1 / MINUTE, 6 * HOUR, 60.0, 60.0),
    _rate("0.1 per s", 0.1, 3 * HOUR, 300.0, 60.0),
    _rate("1 per s", 1.0, 3600.0, 120.0, 60.0),
    _rate("10 per s", 10.0, 600.0, 60.0, 60.0),
    _rate("100 per s", 100.0, 150.0, 30.0, 30.0),
    _rate("1000 per s", 1000.0, 40.0, 12.0, 10.0),
)

DAY: Final = Scenario(
    "day",
    "A day in 2 hours, 0.01 to 5 callers a second",
    2 * HOUR,
    {"default": PoolLimits(ceiling=1200, dials_max=64, waiters_max=100)},
    (DayCurve(0.01, 5.0, 2 * HOUR),),
    60.0,
    call=LogNormal(60.0, 1.0),
    account=AMPLE_ACCOUNT,
)

BURST: Final = Scenario(
    "burst of 500",
    "500 callers in one instant on 64 warm lines, 16 dials at once, demand off",
    180.0,
    {
        "default": PoolLimits(
            floor=64,
            ceiling=640,
            reserve=0,
            dials_max=16,
            waiters_max=500,
            wait_max_ms=120_000,
            demand=DemandOptions(enabled=False),
        )
    },
    (Bursts(500, TROUBLE_SECONDS),),
    TROUBLE_SECONDS,
    call=Exponential(300.0),
    account=AMPLE_ACCOUNT,
)

BURSTS: Final = Scenario(
    "bursts of 20",
    "20 callers in one instant, every minute, on an account with 5 dials a second",
    1260.0,
    {"default": PoolLimits(ceiling=100, dials_max=16)},
    (Bursts(20, TROUBLE_SECONDS, MINUTE),),
    TROUBLE_SECONDS,
    call=Exponential(30.0),
)

RECONNECT: Final = Scenario(
    "mass reconnect",
    "200 calls lose their lines at once, and every caller comes back within 2 s",
    480.0,
    {"default": replace(AMPLE, wait_max_ms=10_000)},
    # Two a second for 100 s, in calls that do not end meanwhile.
    (Bursts(1, 0.5, 0.5, until_seconds=100.25),),
    110.0,
    call=LogNormal(36_000.0, 0.1),
    provider=Provider(troubles=(Trouble(Fault.CUT, 120.0, ends_calls=True),)),
    account=AMPLE_ACCOUNT,
    returns_within_seconds=2.0,
)


def _trouble(name: str, title: str, trouble: Trouble, per_second: float, seconds: float) -> Scenario:
    return Scenario(
        name,
        title,
        seconds,
        {"default": replace(AMPLE, dials_max=8)},
        (Poisson(per_second),) if per_second else (),
        trouble.from_seconds,
        call=Exponential(30.0),
        provider=Provider(troubles=(trouble,)),
        account=AMPLE_ACCOUNT,
    )


_DOWN: Final = Trouble(Fault.DOWN, 120.0, 60.0, ends_calls=True, ends_ready=True)
_KEY: Final = Trouble(Fault.KEY_REFUSED, 120.0, 60.0)
_FLAPPING: Final = Trouble(Fault.FLAPPING, 120.0, 120.0, ends_ready=True)
_HANGING: Final = Trouble(Fault.HANGING, 120.0, 120.0)

TROUBLES: Final = (
    _trouble("down", "The provider is down for 60 s, 1 caller a second", _DOWN, 1.0, 300.0),
    _trouble("down, no callers", "The provider is down for 60 s, and nobody comes", _DOWN, 0.0, 300.0),
    _trouble("key refused", "401 for 60 s, 1 caller a second", _KEY, 1.0, 300.0),
    _trouble("flapping", "Lines die 2 s after they are accepted for 120 s, 1 caller a second", _FLAPPING, 1.0, 420.0),
    _trouble("flapping, no callers", "Lines die 2 s after they are accepted for 120 s", _FLAPPING, 0.0, 420.0),
    _trouble("hanging", "Half of all handshakes hang for 120 s, 1 caller a second", _HANGING, 1.0, 360.0),
)

# The last caller comes half an hour before the end.
TO_ZERO: Final = Scenario(
    "1 per min, floor 0",
    "Callers by chance (Poisson), 1 per min, floor 0: nothing stands once nobody comes",
    3 * HOUR,
    {"default": PoolLimits(floor=0, ceiling=66, dials_max=16)},
    (Poisson(1 / MINUTE, until_seconds=2.5 * HOUR),),
    60.0,
    account=AMPLE_ACCOUNT,
)

_SHARING: Final = PoolLimits(floor=0, ceiling=40, dials_max=16)
_RARE: Final = tuple(f"rare-{number:02}" for number in range(1, 21))
BARE_LINES: Final = Scenario(
    "bare lines",
    "One busy template (0.5 per s) and twenty rare ones (0.2 per min each), floor 0, in one class",
    1800.0,
    {"busy": replace(_SHARING, ceiling=200), **dict.fromkeys(_RARE, _SHARING)},
    (Poisson(0.5, "busy"), *(Poisson(0.2 / MINUTE, name) for name in _RARE)),
    300.0,
    account=AMPLE_ACCOUNT,
)

SCENARIOS: Final = (*RATES, TO_ZERO, BARE_LINES, DAY, BURST, BURSTS, RECONNECT, *TROUBLES)
BY_NAME: Final = {each.name: each for each in SCENARIOS}


def shortened(scenario: Scenario, part: float) -> Scenario:
    """Keep the warm-up, and only a part of what is judged; a story with a plot is told to its end."""
    if not scenario.is_steady:
        return scenario
    judged = scenario.seconds - scenario.warm_up_seconds
    return replace(scenario, seconds=scenario.warm_up_seconds + judged * part)
