"""Hears where speech starts and stops: energy above a noise floor that follows the room.

Pure: audio in, edges out; knows no session and no clock but the samples. Cheap enough for hundreds of calls on a core,
so it looks at loudness only: steady noise is learned, a second voice in the room is speech to it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np
import numpy.typing as npt

FRAME_MS: Final = 20
RATE_HZ: Final = 8_000
FRAME_SAMPLES: Final = RATE_HZ * FRAME_MS // 1000

# Loudness is in dB of full scale. Quieter than this is silence, whatever the floor says.
SILENCE_DB: Final = -62.0
_FLOOR_WINDOW_FRAMES: Final = 60
# The floor drops at once and climbs slowly, in dB a frame: slowest during speech, or a long vowel becomes the room.
_FLOOR_RISE: Final = 0.4
_FLOOR_RISE_IN_SPEECH: Final = 0.03
# Nothing is decided before the floor has seen this much of the room.
_LEARN_FRAMES: Final = 6
# Speech starts when this many of the last frames are loud; one loud frame is a click.
_START_FRAMES: Final = 3
_START_WINDOW: Final = 5
_RESUME_FRAMES: Final = 2
# How far speech must stand above the floor at `threshold` 0 and 1, and how much less keeps it going.
_MARGIN_AT_0_DB: Final = 3.5
_MARGIN_AT_1_DB: Final = 9.5
_HYSTERESIS_DB: Final = 2.0
_BLOCK_SAMPLES: Final = 20


class EdgeKind(Enum):
    """Which way speech changed."""

    STARTED = "started"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Edge:
    """A change, in milliseconds of the audio clock.

    at_ms: STARTED: where the voice was first heard. STOPPED: the end of the silence that decided it.
    """

    kind: EdgeKind
    at_ms: int


@dataclass(frozen=True, slots=True)
class VadSettings:
    """The part of `turn_detection` that the detector obeys.

    silence_max_ms: how long to wait where the speaker seems not to have finished; None = never longer.
    """

    threshold: float = 0.5
    silence_duration_ms: int = 500
    silence_max_ms: int | None = None


Finished = Callable[[int, int], bool]
"""Tells whether what was said from one millisecond of the audio clock to another is a whole."""


class SpeechDetector:
    """One stream's ears. Feed whole frames of 8 kHz samples in order; takes new settings at any time."""

    def __init__(self, settings: VadSettings, origin_ms: int = 0, finished: Finished | None = None) -> None:
        """Start with an unknown room; the first frame fed begins at `origin_ms` of the audio clock."""
        self.settings = settings
        self._finished = finished
        self._started_ms = origin_ms
        self._origin_ms = origin_ms
        self.speaking = False
        self._frames_fed = 0
        self._recent = deque[float](maxlen=_FLOOR_WINDOW_FRAMES)
        self._floor = 0.0
        self._loud = deque[bool](maxlen=_START_WINDOW)
        self._quiet_frames = 0
        self._resumed_frames = 0

    def feed(self, frames: npt.NDArray[np.int16]) -> list[Edge]:
        """Hear `frames` (n by FRAME_SAMPLES); what changed, in order."""
        edges = []
        for level in loudness(frames):
            self._frames_fed += 1
            self._learn(level)
            edge = self._continue(level) if self.speaking else self._begin(level)
            if edge:
                edges.append(edge)
        return edges

    def forget_speech(self) -> None:
        """Drop what is being said (the buffer was committed or cleared); the room stays known."""
        self.speaking = False
        self._loud.clear()

    def _learn(self, level: float) -> None:
        self._recent.append(level)
        lowest = min(self._recent)
        rise = _FLOOR_RISE_IN_SPEECH if self.speaking else _FLOOR_RISE
        known = self._frames_fed > _LEARN_FRAMES
        self._floor = max(SILENCE_DB, min(lowest, self._floor + rise) if known else lowest)

    def _begin(self, level: float) -> Edge | None:
        self._loud.append(level > self._floor + self._margin)
        if self._frames_fed < _LEARN_FRAMES or sum(self._loud) < _START_FRAMES:
            return None
        first_loud = self._frames_fed - len(self._loud) + self._loud.index(True)
        self.speaking = True
        self._quiet_frames = self._resumed_frames = 0
        self._started_ms = self._origin_ms + first_loud * FRAME_MS
        return Edge(EdgeKind.STARTED, self._started_ms)

    def _continue(self, level: float) -> Edge | None:
        if level > self._floor + self._margin - _HYSTERESIS_DB:
            self._resumed_frames += 1
            self._quiet_frames = 0 if self._resumed_frames >= _RESUME_FRAMES else self._quiet_frames + 1
        else:
            self._resumed_frames = 0
            self._quiet_frames += 1
        end_ms = self._origin_ms + self._frames_fed * FRAME_MS
        if not self._is_over(end_ms):
            return None
        self.forget_speech()
        return Edge(EdgeKind.STOPPED, end_ms)

    def _is_over(self, end_ms: int) -> bool:
        quiet_ms = self._quiet_frames * FRAME_MS
        if quiet_ms < self.settings.silence_duration_ms:
            return False
        if self._finished is None or quiet_ms >= (self.settings.silence_max_ms or 0):
            return True
        # Asked once a pause, in the frame in which it has become long enough.
        asked = quiet_ms - FRAME_MS >= self.settings.silence_duration_ms
        return not asked and self._finished(self._started_ms, end_ms)

    @property
    def _margin(self) -> float:
        return _MARGIN_AT_0_DB + (_MARGIN_AT_1_DB - _MARGIN_AT_0_DB) * self.settings.threshold


def loudness(frames: npt.NDArray[np.int16]) -> list[float]:
    """Measure each frame in dB of full scale, low rumble taken out."""
    blocks = frames.reshape(len(frames), FRAME_SAMPLES // _BLOCK_SAMPLES, _BLOCK_SAMPLES).astype(
        np.float32
    ) / np.float32(32768)
    # Only what swings within 2.5 ms counts: rumble below the voice wanders by 10 dB and would be taken for it.
    power = np.maximum(blocks.var(axis=2).mean(axis=1), np.float32(1e-10))
    levels: list[float] = (10 * np.log10(power)).tolist()
    return levels


def to_8k(samples_24k: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Take a third of the rate by plain averaging: hiss above speech goes, and noise loses about 5 dB."""
    triples = samples_24k.reshape(-1, 3).astype(np.int32)
    averages: npt.NDArray[np.int16] = (triples.sum(axis=1) // 3).astype(np.int16)
    return averages
