"""Whatever is lost, and at whichever turn of the loop: what was said is known once, and what happened is told once."""

import pytest

from tests.support.virtual_time import turns
from tests.unit.runtime.storm import Storm, end, judge, live

SEEDS, SEEDS_A_TEST = 1200, 50
STEPS = 6
TURNS = range(60)
# All of it takes its time; a part is looked at with every change.
SOME, ALL = "some", pytest.param("all", marks=pytest.mark.heavy)


async def weathered(
    seed: int, fault_at: tuple[str, int] | None = None, entries_max: int | None = None, steps: int = STEPS
) -> Storm:
    storm = Storm(seed, entries_max)
    try:
        await storm.begin()
        if fault_at is None:
            await live(storm, steps)
        else:
            await struck(storm, *fault_at)
        judge(storm)
    except (AssertionError, TimeoutError) as error:
        raise AssertionError(f"seed {seed}, {storm.faults}: {error}") from error
    finally:
        await storm.clear()
    return storm


async def struck(storm: Storm, fault: str, turn: int) -> None:
    storm.say()
    storm.control("response.create")
    storm.say()
    await turns(turn)
    await storm.strike(fault)
    storm.say()
    await end(storm)


@pytest.mark.parametrize("fault", ["drop", "kill", "cut_line", "drain", "stop_store", "move"])
@pytest.mark.parametrize("much", [SOME, ALL])
async def test_a_fault_at_every_turn_of_the_loop_costs_nothing(fault: str, much: str) -> None:
    moves, looked_at = 0, TURNS if much == "all" else TURNS[::4]
    for turn in looked_at:
        moves += (await weathered(turn, (fault, turn))).moves
    assert moves >= (len(looked_at) / 2 if fault == "move" else 0)


async def test_a_session_weathers_many_faults() -> None:
    for seed in range(15):
        await weathered(seed)


@pytest.mark.parametrize("much", [SOME, ALL])
async def test_a_session_whose_log_is_too_long_to_be_kept_goes_on_with_the_newest_of_it(much: str) -> None:
    for seed in range(60 if much == "all" else 15):
        await weathered(seed, entries_max=24, steps=16)


@pytest.mark.heavy
@pytest.mark.timeout(200)
@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_A_TEST))
async def test_a_session_weathers_many_more(first: int) -> None:
    for seed in range(first, first + SEEDS_A_TEST):
        await weathered(seed)
