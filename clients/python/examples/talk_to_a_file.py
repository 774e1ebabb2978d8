"""Ask what is in one WAV file, and write the answer to another.

    python talk_to_a_file.py 127.0.0.1:50051 question.wav answer.wav

The token comes from TRUNKLINE_TOKEN. A question at another rate than 24,000 Hz needs
`trunkline-client[audio]`. The template's turn detection finds its end by the silence after it.
"""

import argparse
import asyncio
import os
import sys

from trunkline_client import AsyncClient, AsyncSession, TrunklineError
from trunkline_client.audio import paced, read_wav, silence, write_wav
from trunkline_client.events import Interrupted, OutputAudio, ResponseDone, TranscriptDelta


async def speak(session: AsyncSession, pcm: bytes) -> None:
    """Send the question as fast as it is spoken, then a second of silence."""
    async for chunk in paced(pcm + silence(1)):
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
    """Speak in one task and listen in another: a conversation goes both ways at once."""
    parser = argparse.ArgumentParser(description="Ask what is in a WAV file and write the answer to another.")
    for name in ("address", "question", "answer"):
        parser.add_argument(name)
    arguments = parser.parse_args()
    question = read_wav(arguments.question)
    client = AsyncClient(arguments.address, token=os.environ.get("TRUNKLINE_TOKEN", ""))
    async with client, client.open() as session:
        speaking = asyncio.create_task(speak(session, question))
        try:
            write_wav(arguments.answer, await listen(session))
        finally:
            speaking.cancel()
            # What ends the session is told by listening; speaking may have failed by it too.
            await asyncio.gather(speaking, return_exceptions=True)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except TrunklineError as error:
        sys.exit(f"{error}\n{error.advice}")
    except (OSError, ValueError, ImportError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
