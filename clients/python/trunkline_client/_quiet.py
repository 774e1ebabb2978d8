"""Whether a conversation rests: nobody speaks, and no answer is due or under way.

Pure: time is an argument, in seconds that only rise.
"""

import math

from trunkline.v1.control_pb2 import Control
from trunkline.v1.session_pb2 import ConverseResponse


def asks(control: Control) -> bool:
    """Tell whether a control asks for an answer."""
    return control.HasField("create_response") or control.tool_result.create_response


class Quiet:
    """What goes on in one session, as its messages tell."""

    def __init__(self) -> None:
        """Begin at rest."""
        # Controls that asked for an answer which has not begun, the oldest first.
        self._asked: dict[int, None] = {}
        self._answers: set[str] = set()
        self._is_spoken = False
        self._rests_since = -math.inf

    @property
    def since(self) -> float:
        """Since when it rests; infinite = it does not."""
        return math.inf if self._asked or self._answers or self._is_spoken else self._rests_since

    def ask(self, cseq: int) -> None:
        """Note that this control asks for an answer; 0 = `open` does."""
        self._asked[cseq] = None

    def note(self, kind: str, response: ConverseResponse, now: float) -> None:
        """Note what a message tells."""
        match kind:
            case "response_created":
                self._take_oldest()
                self._answers.add(response.response_created.response_id)
            case "response_done" if response.response_done.response_id in self._answers:
                self._answers.remove(response.response_done.response_id)
            case "response_done":
                # Its beginning was lost with a stream.
                self._take_oldest()
            case "speech_started" | "speech_stopped":
                self._is_spoken = kind == "speech_started"
            case "error":
                self._asked.pop(response.error.cseq, None)
            case _:
                return
        self._rests_since = now

    def _take_oldest(self) -> None:
        if self._asked:
            del self._asked[next(iter(self._asked))]
