"""One measured call through a gateway, as a caller would make it: by text or by speech."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Final

import numpy as np
from trunkline.v1.types_pb2 import LINE_SOURCE_WARM
from trunkline_client import AsyncClient, AsyncSession, TrunklineError
from trunkline_client.audio import paced
from trunkline_client.events import (
    Closed,
    Error,
    OutputAudio,
    ResponseDone,
    SpeechStopped,
    TranscriptDelta,
)

from gateway.cli.figures import Call
from gateway.simulator.speech import Utterance, questions

TEXT, SPEECH = "text", "speech"
CALL_SECONDS: Final = 60.0
_CHUNK_MS: Final = 40
# Quieter than this is the silence around the words, not a part of them.
_QUIET: Final = 400
# How much silence a caller sends after its words before it gives up on being heard.
_SILENCE_SECONDS: Final = 10
_PCM_BYTES_PER_SECOND: Final = 48_000
_COMPLETED: Final = 1


@dataclass(slots=True)
class _Clock:
    """Moments of one call, in seconds."""

    began: float = 0.0
    heard: asyncio.Event = field(default_factory=asyncio.Event)


def plan(calls: int) -> list[tuple[int, str, Utterance]]:
    """Return number, kind and words of each call: half text, half speech."""
    words = cycle(questions())
    kinds = cycle((TEXT, SPEECH))
    return list(zip(range(1, calls + 1), kinds, islice(words, calls), strict=False))


async def make_call(client: AsyncClient, template: str, number: int, kind: str, words: Utterance) -> Call:
    """Make one call and measure it; a failure is in the result, not raised."""
    call = Call(kind, number)
    try:
        async with asyncio.timeout(CALL_SECONDS):
            await _converse(client, template, call, words)
    except TimeoutError:
        call.error = f"no complete answer within {CALL_SECONDS:.0f} s"
    except TrunklineError as error:
        call.error = str(error)
    call.ok = not call.error
    return call


async def _converse(client: AsyncClient, template: str, call: Call, words: Utterance) -> None:
    asked_at = time.perf_counter()
    async with client.open(template) as session:
        call.open_ms = _ms_since(asked_at)
        call.warm_hit = session.opened.source == LINE_SOURCE_WARM
        clock = _Clock()
        async with asyncio.TaskGroup() as group:
            group.create_task(_listen(session, call, clock))
            if call.kind == TEXT:
                await session.send_text(words.text)
                clock.began = time.perf_counter()
                await session.create_response()
            else:
                await _speak(session, clock, words)


async def _speak(session: AsyncSession, clock: _Clock, words: Utterance) -> None:
    """Say the words at the pace of speech, then stay on the line in silence until they were heard."""
    speech = _without_tail(words.pcm)
    async for chunk in paced(speech, _CHUNK_MS):
        await session.send_audio(chunk)
        clock.began = time.perf_counter()
    async for chunk in _silence():
        if clock.heard.is_set():
            return
        await session.send_audio(chunk)


async def _silence() -> AsyncIterator[bytes]:
    async for chunk in paced(bytes(_PCM_BYTES_PER_SECOND * _SILENCE_SECONDS), _CHUNK_MS):
        yield chunk


async def _listen(session: AsyncSession, call: Call, clock: _Clock) -> None:
    """Read until the answer is complete."""
    async for event in session:
        match event:
            case OutputAudio():
                if call.first_audio_ms is None:
                    call.first_audio_ms = _ms_since(clock.began)
                call.audio += event.data
            case TranscriptDelta():
                call.words += event.delta
            case SpeechStopped():
                clock.heard.set()
            case ResponseDone():
                call.response_ms = _ms_since(clock.began)
                if event.status != _COMPLETED:
                    call.error = f"the answer ended as {event.status_reason or event.status}"
                return
            case Error():
                call.error = event.message
                return
            case Closed():
                call.error = event.error.message or "the session was closed"
                return


def _without_tail(pcm: bytes) -> bytes:
    """Cut the silence after the last word: first audio is counted from the last sample of speech."""
    samples = np.frombuffer(pcm, dtype="<i2")
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > _QUIET)
    return pcm[: 2 * (int(loud[-1]) + 1)] if loud.size else pcm


def _ms_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)


def failures(calls: Sequence[Call]) -> list[str]:
    """Return one line per failed call."""
    return [f"call {call.number} ({call.kind}): {call.error}" for call in calls if not call.ok]
