"""Say what is in one WAV file and write the answer to another, without asyncio.

python talk_to_a_file_sync.py 127.0.0.1:50051 question.wav answer.wav
"""

import argparse
import os
import threading
from contextlib import suppress

from trunkline_client import CallerError, Client, Session
from trunkline_client.audio import paced_sync, read_wav, write_wav
from trunkline_client.events import Interrupted, OutputAudio, ResponseDone, TranscriptDelta

SILENCE = bytes(2 * 24_000)


def speak(session: Session, pcm: bytes) -> None:
    """Send the question as fast as it is spoken, then a second of silence."""
    # The answer may be complete, and the session closed, before the silence is.
    with suppress(CallerError):
        for chunk in paced_sync(pcm + SILENCE):
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
    """Ask in a thread and listen in this one."""
    parser = argparse.ArgumentParser(description="Say a WAV file and write the answer to another.")
    for name in ("address", "question", "answer"):
        parser.add_argument(name)
    arguments = parser.parse_args()
    token = os.environ.get("TRUNKLINE_TOKEN", "")
    with Client(arguments.address, token=token) as client, client.open() as session:
        speaking = threading.Thread(target=speak, args=(session, read_wav(arguments.question)))
        speaking.start()
        write_wav(arguments.answer, listen(session))
        session.close()
        speaking.join()


if __name__ == "__main__":
    main()
