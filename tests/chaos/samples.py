"""Audio of which each piece tells whose it is and where it stands, and the account of what became of it.

The samples of a caller rise by a step, modulo 65,536. Every 65,536 samples it takes another step, which no other
caller has: two neighbours give the step, and the step and one sample the place. Knows nothing of gateway or client.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

_VALUES: Final = 1 << 16
# Steps are odd, so that every value comes once in a block, and neither so small nor so near to a third of the values
# that it is silence to who takes every third sample.
_STEP_FIRST: Final = 8_001
_BLOCKS: Final = 500
CALLERS_MAX: Final = 10

Run = Sequence[int]
"""The first sample, the step to the next, and how many there are."""


@dataclass
class Speech:
    """What one caller said, and which items it was told of: one for each turn, in order."""

    caller: int
    # From which sample to which, without the last.
    turns: list[tuple[int, int]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


@dataclass
class SampleVerdict:
    """What became of the samples of all turns."""

    total: int = 0
    lost: int = 0
    doubled: int = 0
    # In sentences, one for each fault.
    faults: list[str] = field(default_factory=list)


def coded(caller: int, begin: int, count: int) -> bytes:
    """Return samples of 16 bits from a place on."""
    assert caller < CALLERS_MAX, "no steps are left"
    assert begin + count <= _BLOCKS * _VALUES, "it talks for too long"
    positions = np.arange(begin, begin + count)
    steps = _STEP_FIRST + 2 * (caller * _BLOCKS + positions // _VALUES)
    return (positions % _VALUES * steps % _VALUES).astype("<u2").tobytes()


def place(run: Run) -> tuple[int, int] | None:
    """Return the caller and the first place of a run; None = it is of nobody."""
    first, step, _ = run
    known, odd = divmod(step - _STEP_FIRST, 2)
    caller, block = divmod(known, _BLOCKS)
    if odd or not 0 <= caller < CALLERS_MAX:
        return None
    return caller, block * _VALUES + first * pow(step, -1, _VALUES) % _VALUES


def judge_samples(speeches: Iterable[Speech], committed: Mapping[str, Sequence[Run] | None]) -> SampleVerdict:
    """Look for each sample of each turn in the items that its caller was told of; `committed` is what those held."""
    verdict = SampleVerdict()
    for speech in speeches:
        _judge_one(speech, committed, verdict)
    return verdict


def _judge_one(speech: Speech, committed: Mapping[str, Sequence[Run] | None], verdict: SampleVerdict) -> None:
    who, end = f"speaker {speech.caller}", max((end for _, end in speech.turns), default=0)
    times = np.zeros(end, np.int32)
    if len(speech.told) != len(speech.turns):
        verdict.faults.append(f"{who} was told of {len(speech.told)} turns and had ended {len(speech.turns)}")
    for item_id in speech.told:
        runs = committed.get(item_id)
        if runs is None:
            verdict.faults.append(f"{who} was told of {item_id}, and nobody knows what it holds")
            continue
        for run in runs:
            found = place(run)
            if found is None or found[0] != speech.caller or found[1] + run[2] > end:
                verdict.faults.append(f"{who} is said to have said in {item_id} {list(run)}, from {found}")
            else:
                times[found[1] : found[1] + run[2]] += 1
    for turn, item_id in zip(speech.turns, speech.told, strict=False):
        held = _held(committed.get(item_id) or ())
        if held != [turn]:
            verdict.faults.append(f"{who} said {turn} and {item_id} holds {held}")
    for begin, stop in speech.turns:
        of_turn = times[begin:stop]
        verdict.total += stop - begin
        verdict.lost += int(np.count_nonzero(of_turn == 0))
        verdict.doubled += int(np.clip(of_turn - 1, 0, None).sum())


def _held(runs: Iterable[Run]) -> list[tuple[int, int]]:
    """Return from where to where, without the last; a new piece where one does not go on from the one before."""
    pieces = list[tuple[int, int]]()
    for run in runs:
        found = place(run)
        begin = -1 if found is None else found[1]
        if pieces and pieces[-1][1] == begin:
            pieces[-1] = (pieces[-1][0], begin + run[2])
        else:
            pieces.append((begin, begin + run[2]))
    return pieces
