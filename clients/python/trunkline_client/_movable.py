"""One session that outlives its streams, and moves when it is asked to. Pure as `_resumable.py`, to which it adds."""

from trunkline.v1.control_pb2 import Control
from trunkline.v1.session_pb2 import RESUME_MODE_PREPARE, ConverseRequest, ConverseResponse, Open, Resumed
from trunkline.v1.types_pb2 import FEATURE_PLANNED_MOVE

from trunkline_client._moving import Moving
from trunkline_client._quiet import Quiet, asks
from trunkline_client._resumable import ResumableCore
from trunkline_client._session import State
from trunkline_client.options import ConnectionOptions


class MovableCore(ResumableCore):
    """The machine. `moving` is there from `go_away` on, until the stream on which that came is left."""

    def __init__(self, options: ConnectionOptions, unsent_max_bytes: int) -> None:
        """Begin before `open`, at rest."""
        super().__init__(options, unsent_max_bytes)
        self.moving: Moving | None = None
        self._quiet = Quiet()

    @property
    def may_move(self) -> bool:
        """Whether a move is of use: after `bye` what is due is finished where it is."""
        return self.state is State.OPEN

    @property
    def claim_at(self) -> float:
        """When to claim what is prepared, if the conversation stays as it is."""
        assert self.moving is not None, "nothing is prepared without a move"  # noqa: S101
        return self.moving.claim_at(self._quiet.since)

    # What is sent.

    def open_request(self, message: Open) -> ConverseRequest:
        """Do as the plain one does."""
        if message.HasField("greet"):
            self._quiet.ask(0)
        return super().open_request(message)

    def control_request(self, control: Control) -> ConverseRequest:
        """Do as the resumable one does."""
        request = super().control_request(control)
        if asks(control):
            self._quiet.ask(request.cseq)
        return request

    def prepare_request(self) -> ConverseRequest:
        """Return the first message of a second stream, which changes nothing of the first."""
        return self._resume(RESUME_MODE_PREPARE)

    # What is received.

    def _take_note(self, kind: str, response: ConverseResponse, now: float) -> None:
        if kind != "go_away":
            self._quiet.note(kind, response, now)
        elif self.moving is not None:
            self.moving.hurry(response.go_away.deadline_ms, now)
        elif self.may_move and self._resume_window_seconds and FEATURE_PLANNED_MOVE in self.opened.features:
            self.moving = Moving(response.go_away.deadline_ms, self._options, now)

    def receive_resumed(self, response: ConverseResponse) -> Resumed | None:
        """Do as the resumable one does."""
        resumed = super().receive_resumed(response)
        if resumed is not None and resumed.HasField("gap"):
            # The end of what went on may be among what is lost.
            self._quiet = Quiet()
        return resumed
