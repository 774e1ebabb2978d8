"""The account of samples: a caller's audio is found again, and each thing that may happen to it is seen."""

import numpy as np
import pytest

from gateway.simulator.committed import Run, runs_of
from tests.chaos.samples import CALLERS_MAX, SampleVerdict, Speech, coded, judge_samples, place

SPEECH = Speech(1, [(0, 48_000), (48_000, 100_000)], ["a", "b"])


def heard(*pieces: tuple[int, int], caller: int = 1) -> list[Run]:
    """Return what is told of an item that holds these."""
    wire = b"".join(coded(caller, begin, end - begin) for begin, end in pieces)
    runs = runs_of(np.frombuffer(wire, "<i2"))
    assert runs is not None
    return runs


def judged(**committed: list[Run]) -> tuple[int, int, int, int]:
    verdict = judge_samples([SPEECH], committed)
    return verdict.total, verdict.lost, verdict.doubled, len(verdict.faults)


@pytest.mark.parametrize("caller", [0, CALLERS_MAX - 1])
def test_every_sample_tells_whose_it_is_and_where_it_stands(caller: int) -> None:
    for begin in (0, 65_535, 65_536, 7_654_321):
        (run, *_) = heard((begin, begin + 2), caller=caller) if begin != 65_535 else heard((begin, begin + 1))
        assert begin == 65_535 or place(run) == (caller, begin)


def test_what_was_said_is_found_once_also_over_the_end_of_a_block() -> None:
    assert judged(a=heard((0, 48_000)), b=heard((48_000, 100_000))) == (100_000, 0, 0, 0)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([(0, 47_999)], [(48_000, 100_000)], (1, 0)),
        ([(0, 20_000), (22_400, 48_000)], [(48_000, 100_000)], (2_400, 0)),
        ([(0, 20_000), (17_600, 48_000)], [(48_000, 100_000)], (0, 2_400)),
        ([(0, 48_000)], [(45_600, 100_000)], (0, 2_400)),
        # Nothing is lost, and the turns are not those that the caller ended.
        ([(0, 50_400)], [(50_400, 100_000)], (0, 0)),
        ([(2_400, 4_800), (0, 2_400), (4_800, 48_000)], [(48_000, 100_000)], (0, 0)),
    ],
)
def test_a_hole_a_double_and_a_shift_are_noticed(
    first: list[tuple[int, int]], second: list[tuple[int, int]], expected: tuple[int, int]
) -> None:
    _, lost, doubled, faults = judged(a=heard(*first), b=heard(*second))
    assert (lost, doubled) == expected
    assert faults


def test_a_turn_that_nobody_was_told_of_or_knows_is_lost() -> None:
    assert judge_samples([Speech(1, SPEECH.turns, ["a"])], {"a": heard((0, 48_000))}) == SampleVerdict(
        100_000, 52_000, 0, ["speaker 1 was told of 1 turns and had ended 2"]
    )
    assert judged(a=heard((0, 48_000))) == (100_000, 52_000, 0, 2)


def test_the_audio_of_somebody_else_is_no_substitute() -> None:
    total, lost, _, faults = judged(a=heard((0, 48_000), caller=2), b=heard((48_000, 100_000)))
    assert (total, lost) == (100_000, 48_000)
    assert faults
