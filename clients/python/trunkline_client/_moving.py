"""A planned move: when to prepare another gateway, when to claim the session there, when to let it be.

Pure: time and chance are arguments, in seconds that only rise and from 0 to 1.
"""

from typing import Final

from trunkline.v1.session_pb2 import ConverseResponse

from trunkline_client._resume import PATIENCE_SECONDS, Attempt, grown
from trunkline_client.errors import TrunklineError, refusal
from trunkline_client.options import ConnectionOptions

TRIES_AGAIN_MAX: Final = 4
# With less of the deadline left nothing is tried again, and what is prepared is claimed, quiet or not.
TRIES_UNTIL_SECONDS: Final = 2.0
CLAIMS_BEFORE_SECONDS: Final = 1.0
# A gateway holds what it has prepared for 30 s.
HELD_SECONDS: Final = 20.0
# The answer to what was just said, or to the result of a function, is about to begin.
SETTLED_SECONDS: Final = 0.25
# A claim of what is prepared dials nobody, but it has to be stored.
_CLAIM_OWNER_TIMES: Final = 2


class Moving:
    """One move, from `go_away` on: a second stream is prepared, while the first goes on, and then claimed."""

    def __init__(self, deadline_ms: int, options: ConnectionOptions, now: float) -> None:
        """Begin with `go_away`."""
        self._leaves_at = now + deadline_ms / 1000
        self._options = options
        self._tries = 0
        self._advised_seconds = 0.0
        self._prepared_at = now
        # Whether the other gateway has said so.
        self.is_prepared = False
        # What was read of the second stream before it was claimed.
        self.read_bytes = 0
        self.claim_seconds = min(_CLAIM_OWNER_TIMES * options.owner_timeout_seconds, options.call_timeout_seconds)

    def hurry(self, deadline_ms: int, now: float) -> None:
        """Take another word of the gateway's for when it goes; only an earlier one counts."""
        self._leaves_at = min(self._leaves_at, now + deadline_ms / 1000)

    def next(self, now: float, chance: float) -> Attempt | None:
        """Return how to prepare next, at the client's own address; None = not any more."""
        pause_seconds = max(self._pause_seconds(chance), self._advised_seconds)
        left_seconds = self._leaves_at - now - pause_seconds
        if self._tries > TRIES_AGAIN_MAX or left_seconds <= (TRIES_UNTIL_SECONDS if self._tries else 0.0):
            return None
        self._tries += 1
        self.read_bytes, self.is_prepared = 0, False
        options = self._options
        return Attempt(
            owner="",
            dials=1,
            is_link_doubtful=False,
            pause_seconds=pause_seconds,
            patience_seconds=PATIENCE_SECONDS,
            dial_seconds=min(max(PATIENCE_SECONDS, options.owner_timeout_seconds), left_seconds),
            # A line may have to be dialled, and is told what was said.
            answer_seconds=min(options.call_timeout_seconds, left_seconds),
        )

    def _pause_seconds(self, chance: float) -> float:
        if not self._tries:
            return 0.0
        pause_seconds = grown(self._options.resume_backoff_first_seconds, self._tries - 1)
        return chance * min(pause_seconds, self._options.resume_backoff_max_seconds)

    def fail(self, failure: TrunklineError) -> None:
        """Note why nothing is prepared, or not any more."""
        self._advised_seconds = failure.retry_after_seconds or 0.0

    def receive(self, response: ConverseResponse | None) -> bool:
        """Tell whether a message of the second stream is `prepared`.

        Raises CONNECTION_LOST for the stream's end, INTERNAL if the gateway breaks the contract's order.
        """
        if response is None:
            raise refusal("CONNECTION_LOST", "the stream ended before it was claimed")
        self.read_bytes += response.ByteSize()
        kind = response.WhichOneof("message")
        if kind in {None, "queued"}:
            return False
        if kind != "prepared":
            raise refusal("INTERNAL", f"the gateway answered `resume` by {kind}")
        return True

    def prepared(self, now: float) -> None:
        """Note that the other gateway is ready."""
        self._prepared_at, self.is_prepared = now, True

    def claim_at(self, quiet_since: float) -> float:
        """Return when to claim what is prepared, if the conversation stays as it is."""
        quiet_at = max(quiet_since + SETTLED_SECONDS, self._prepared_at)
        return min(quiet_at, self._prepared_at + HELD_SECONDS, self._leaves_at - CLAIMS_BEFORE_SECONDS)
