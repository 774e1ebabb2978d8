"""Stream a WAV file as if it were a telephone's microphone, and record what comes back.

    python stream_a_file.py 127.0.0.1:50051 call.wav answers.wav

Everything in the file is said at its own pace, whatever the other side does; all answers are
written as they come, until the gateway has finished what is due. The token comes from
TRUNKLINE_TOKEN.
"""

import argparse
import asyncio
import os
import sys

from trunkline_client import AsyncClient, AsyncSession, TrunklineError
from trunkline_client.audio import WavWriter, paced, read_wav, silence
from trunkline_client.errors import as_exception
from trunkline_client.events import Closed, Error, OutputAudio, ResponseDone, UserTranscript


async def speak(session: AsyncSession, path: str) -> None:
    """Send the file in the session's own format, then say that no more comes."""
    audio_format = session.opened.input_format
    audio = read_wav(path, audio_format) + silence(1, audio_format)
    async for chunk in paced(audio, audio_format=audio_format):
        # Waits where the gateway takes no more: nothing piles up here.
        await session.send_audio(chunk)
    await session.end_input()


async def listen(session: AsyncSession, recording: WavWriter) -> None:
    """Record until the session is closed, and tell what happens."""
    async for event in session:
        match event:
            case OutputAudio():
                recording.write(event.data)
            case UserTranscript(final=True):
                print(f"heard: {event.text}")
            case ResponseDone():
                print(f"answered; {recording.seconds:.1f} s recorded")
            case Error():
                # One request was refused; the session goes on.
                print(as_exception(event), file=sys.stderr)
            case Closed():
                print(f"closed after {event.duration_ms / 1000:.1f} s")


async def main() -> None:
    """Do both at once; the first failure ends both."""
    parser = argparse.ArgumentParser(description="Stream a WAV file and record the answers.")
    for name in ("address", "call", "answers"):
        parser.add_argument(name)
    arguments = parser.parse_args()
    client = AsyncClient(arguments.address, token=os.environ.get("TRUNKLINE_TOKEN", ""))
    async with client, client.open() as session:
        with WavWriter(arguments.answers, session.opened.output_format) as recording:
            await asyncio.gather(speak(session, arguments.call), listen(session, recording))


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except TrunklineError as error:
        sys.exit(f"{error}\n{error.advice}")
    except (OSError, ValueError, ImportError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
