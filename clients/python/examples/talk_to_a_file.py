"""Say what is in one WAV file, and write the answer to another.

    python talk_to_a_file.py 127.0.0.1:50051 question.wav answer.wav

The files are 16-bit mono at 24,000 Hz; the token comes from TRUNKLINE_TOKEN. The template's turn
detection finds the end of the question by the silence after it.
"""

import argparse
import asyncio
import os

from trunkline_client import AsyncClient, AsyncSession
from trunkline_client.audio import paced, read_wav, write_wav
from trunkline_client.events import Interrupted, OutputAudio, ResponseDone, TranscriptDelta

SILENCE = bytes(2 * 24_000)


async def speak(session: AsyncSession, pcm: bytes) -> None:
    """Send the question as fast as it is spoken, then a second of silence."""
    async for chunk in paced(pcm + SILENCE):
        await session.send_audio(chunk)


async def listen(session: AsyncSession) -> bytes:
    """Return the first answer's audio."""
    answer = bytearray()
    async for event in session:
        match event:
            case OutputAudio():
                answer += event.data
            case TranscriptDelta():
                print(event.delta, end="", flush=True)
            case Interrupted():
                answer.clear()
            case ResponseDone():
                print()
                break
    return bytes(answer)


async def main() -> None:
    """Ask and listen at the same time."""
    parser = argparse.ArgumentParser(description="Say a WAV file and write the answer to another.")
    for name in ("address", "question", "answer"):
        parser.add_argument(name)
    arguments = parser.parse_args()
    token = os.environ.get("TRUNKLINE_TOKEN", "")
    async with (
        AsyncClient(arguments.address, token=token) as client,
        client.open() as session,
        asyncio.TaskGroup() as tasks,
    ):
        speaking = tasks.create_task(speak(session, read_wav(arguments.question)))
        write_wav(arguments.answer, await listen(session))
        speaking.cancel()


if __name__ == "__main__":
    asyncio.run(main())
