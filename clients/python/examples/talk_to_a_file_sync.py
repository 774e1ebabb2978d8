"""Ask what is in one WAV file and write the answer to another, without asyncio.

    python talk_to_a_file_sync.py 127.0.0.1:50051 question.wav answer.wav

The token comes from TRUNKLINE_TOKEN. A question at another rate than 24,000 Hz needs
`trunkline-client[audio]`.
"""

import argparse
import os
import sys
import threading
from contextlib import suppress

from trunkline_client import Client, Session, TrunklineError
from trunkline_client.audio import paced_sync, read_wav, silence, write_wav
from trunkline_client.events import Interrupted, OutputAudio, ResponseDone, TranscriptDelta


def speak(session: Session, pcm: bytes) -> None:
    """Send the question as fast as it is spoken, then a second of silence."""
    # What ends the session is told by listening; the answer may also be complete before the silence.
    with suppress(TrunklineError):
        for chunk in paced_sync(pcm + silence(1)):
            session.send_audio(chunk)


def listen(session: Session) -> bytes:
    """Return the first answer's audio."""
    answer = bytearray()
    for event in session:
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


def main() -> None:
    """Speak in a thread and listen in this one: a conversation goes both ways at once."""
    parser = argparse.ArgumentParser(description="Ask what is in a WAV file and write the answer to another.")
    for name in ("address", "question", "answer"):
        parser.add_argument(name)
    arguments = parser.parse_args()
    question = read_wav(arguments.question)
    with (
        Client(arguments.address, token=os.environ.get("TRUNKLINE_TOKEN", "")) as client,
        client.open() as session,
    ):
        # The end of the block ends the session, and that the thread: its next send is refused.
        threading.Thread(target=speak, args=(session, question)).start()
        write_wav(arguments.answer, listen(session))


if __name__ == "__main__":
    try:
        main()
    except TrunklineError as error:
        sys.exit(f"{error}\n{error.advice}")
    except (OSError, ValueError, ImportError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
