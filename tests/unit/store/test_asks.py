"""Who waits is served by rank and by age, and retries leave no second want."""

from gateway.store.asks import NO_WANT, Ask, Wants, in_order
from gateway.store.slots_call import Granted
from tests.support.slots import LEASED, SPARE, WARM


async def test_recovery_comes_before_callers_before_refill_and_who_left_not_at_all() -> None:
    asks = [Ask(kind, str(at)) for at, kind in enumerate([WARM, LEASED, SPARE, LEASED, SPARE])]
    asks[3].verdict.cancel()
    assert [ask.want for ask in in_order(asks)] == ["2", "4", "1", "0"]


async def test_an_ask_is_granted_only_when_redis_said_so() -> None:
    asks = [Ask(LEASED, "x") for _ in range(4)]
    asks[1].verdict.cancel()
    asks[2].verdict.set_result(None)
    asks[3].verdict.set_result(Granted(0.0))
    assert [ask.granted for ask in asks] == [False, False, False, True]


def test_a_retry_takes_over_the_want_that_stands() -> None:
    wants = Wants(2.0)
    first, second = (wants.name_for(LEASED, "g", 0.0) for _ in range(2))
    assert first != second
    wants.keep(first, 0.0)
    wants.keep(second, 1.0)
    assert wants.name_for(LEASED, "g", 1.0) == first
    # Three callers at once want three places.
    assert wants.name_for(LEASED, "g", 1.0) == second
    assert wants.name_for(LEASED, "g", 1.0) not in (first, second)


def test_a_want_that_has_ended_is_not_taken_over() -> None:
    wants = Wants(2.0)
    first = wants.name_for(LEASED, "g", 0.0)
    wants.keep(first, 0.0)
    assert wants.name_for(LEASED, "g", 2.0) != first
    wants.keep("g:9", 2.0)
    wants.clear()
    assert wants.name_for(LEASED, "g", 2.0) != "g:9"


def test_only_callers_want() -> None:
    wants = Wants(2.0)
    wants.keep("g:1", 0.0)
    assert {wants.name_for(kind, "g", 0.0) for kind in (WARM, SPARE)} == {NO_WANT}
