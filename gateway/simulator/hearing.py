"""Writes down what the caller said: the shipped utterances are recognised by the shape of their loudness.

Anything else is answered honestly with its length. Noise and telephone coding leave the shape as it is.
"""

import math
from functools import cache, partial
from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.core.audio import PCM_24K, AudioFormat
from gateway.simulator import codec
from gateway.simulator.events import Beat, Event, Script, delta_event, event
from gateway.simulator.intake import Turn
from gateway.simulator.outputs import split_words
from gateway.simulator.speech import questions, replies
from gateway.simulator.vad import FRAME_MS, FRAME_SAMPLES, SILENCE_DB, loudness, to_8k

_WORD_MS: Final = 15
_ALIKE: Final = 0.8
# Below this far under the loudest frame there is only room.
_RANGE_DB: Final = 30.0
# A turn carries padding and silence around its words, but not this much more; and may lose its edges.
_EXTRA_FRAMES_MAX: Final = 150
_SHORTER_FRAMES_MAX: Final = -5
_ROOM_PERCENTILE: Final = 20
_STANDS_OUT_DB: Final = 5.0
_OUTSIDE_FRAMES_MAX: Final = 5

Shape = npt.NDArray[np.float32]


def recognise(turn: Turn) -> str | None:
    """Return the text of the shipped utterance that this turn carries, if it is one."""
    heard = _shape(turn.wire, turn.audio_format)
    if not len(heard):
        return None
    loud = _stands_out(heard)
    best, text = _ALIKE, None
    for shape, candidate in _known_shapes():
        spare = len(heard) - len(shape)
        if _SHORTER_FRAMES_MAX <= spare <= _EXTRA_FRAMES_MAX:
            likeness = _likeness(heard, loud, shape)
            if likeness > best:
                best, text = likeness, candidate
    return text


def is_silent(turn: Turn) -> bool:
    """Tell whether there is no sound at all in a turn."""
    return not len(turn.wire) or _loudest_db(turn) <= SILENCE_DB


def describe(turn: Turn) -> str:
    """Return what stands in the transcript of speech that nobody knows."""
    return f"({turn.duration_ms / 1000:.1f} s of speech)"


def transcription(item_id: str, text: str, duration_ms: int) -> Script:
    """Give the events that write a turn down."""
    ids: dict[str, object] = {"item_id": item_id, "content_index": 0}
    words = split_words(text)
    for index, word in enumerate(words, start=1):
        yield Beat(index * _WORD_MS, partial(_delta, ids, word))
    yield Beat(len(words) * _WORD_MS, partial(_completed, ids, text, math.ceil(duration_ms / 1000)))


def failure(item_id: str) -> Event:
    """Return what is told of a turn that cannot be written down."""
    error = {
        "type": "transcription_error",
        "code": "audio_unintelligible",
        "message": f"Input transcription failed for item '{item_id}'.",
        "param": None,
    }
    kind = "conversation.item.input_audio_transcription.failed"
    return event(kind, item_id=item_id, content_index=0, error=error)


def _delta(ids: dict[str, object], word: str) -> list[Event]:
    return [delta_event("conversation.item.input_audio_transcription.delta", ids, word)]


def _completed(ids: dict[str, object], text: str, seconds: int) -> list[Event]:
    usage = {"type": "duration", "seconds": seconds}
    kind = "conversation.item.input_audio_transcription.completed"
    return [event(kind, **ids, transcript=text, usage=usage)]


@cache
def _known_shapes() -> tuple[tuple[Shape, str], ...]:
    return tuple((_shape(each.pcm, PCM_24K), each.text) for each in (*questions(), *replies()))


def _levels(wire: bytes, audio_format: AudioFormat) -> Shape:
    size = audio_format.size_bytes(FRAME_MS)
    samples = codec.decode(wire[: len(wire) // size * size], audio_format)
    at_8k = to_8k(samples) if audio_format == PCM_24K else samples
    return np.asarray(loudness(at_8k.reshape(-1, FRAME_SAMPLES)), np.float32)


def _loudest_db(turn: Turn) -> float:
    return float(_levels(turn.wire, turn.audio_format).max(initial=np.float32(-100)))


def _shape(wire: bytes, audio_format: AudioFormat) -> Shape:
    """Loudness frame by frame, the quiet end flattened to nothing."""
    levels = _levels(wire, audio_format)
    loudest = levels.max(initial=np.float32(-100))
    shape: Shape = np.clip(levels - (loudest - np.float32(_RANGE_DB)), 0, None)
    return shape


def _likeness(heard: Shape, loud: npt.NDArray[np.bool_], known: Shape) -> float:
    """Find the best correlation of `known` with any stretch of `heard`, from -1 to 1."""
    size = len(known)
    if len(heard) < size:
        heard = np.pad(heard, (0, size - len(heard)))
    target = known - known.mean()
    # Running sums give the spread of every stretch at once; the mean needs no taking out, `target` has none.
    sums = np.concatenate(([0.0], np.cumsum(heard, dtype=np.float64)))
    squares = np.concatenate(([0.0], np.cumsum(np.square(heard), dtype=np.float64)))
    spread = (squares[size:] - squares[:-size]) - np.square(sums[size:] - sums[:-size]) / size
    products = np.correlate(heard, target, mode="valid")
    likeness = products / (np.sqrt(np.maximum(spread, 1e-6)) * np.linalg.norm(target))
    best = int(likeness.argmax())
    # A longer sentence may contain a known one: next to nothing may stand out beside it.
    outside = int(loud.sum() - loud[best : best + size].sum())
    return float(likeness[best]) if outside <= _OUTSIDE_FRAMES_MAX else 0.0


def _stands_out(heard: Shape) -> npt.NDArray[np.bool_]:
    """Which frames are louder than the room."""
    loud: npt.NDArray[np.bool_] = heard > np.percentile(heard, _ROOM_PERCENTILE) + _STANDS_OUT_DB
    return loud
