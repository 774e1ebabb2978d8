"""How to go on with a session whose stream was lost: what counts as lost, where to ask and when.

Pure: time and chance are arguments, in seconds that only rise and from 0 to 1.
"""

from dataclasses import dataclass
from typing import Final

from trunkline_client.errors import ADVICE_FOREIGN, TrunklineError, refusal
from trunkline_client.options import ConnectionOptions

# No gateway spoke.
_LOST: Final = frozenset({"CONNECTION_LOST", "TIMED_OUT", "CANCELLED"})
# A gateway spoke, and another one or the same one later may take the session.
_LATER: Final = frozenset({"DRAINING", "OVERLOADED", "STORE_UNAVAILABLE", "RATE_LIMITED"})
_DOUBLINGS_MAX: Final = 16
# So often an `open` is sent, at most, where each gateway that it comes to goes away.
OPENINGS_MAX: Final = 4
# So many are short; then each has twice the time of the one before.
_PATIENT_AFTER: Final = 2
# What a gateway that is alive needs to take a connection, with room for a slow network.
PATIENCE_SECONDS: Final = 0.25
# A balancer may lead a connection to a gateway that is dead or frozen, but hardly all of so many.
_DIALS_AFTER_FAILURE: Final = 2
_DIALS_AFTER_SILENCE: Final = 3


def is_lost(failure: TrunklineError) -> bool:
    """Tell whether a stream ended like this because its connection was lost."""
    # gRPC's own INTERNAL is a broken connection, a gateway's is its word.
    return failure.reason in _LOST or (failure.reason == "INTERNAL" and failure.advice == ADVICE_FOREIGN)


def may_go_on(failure: TrunklineError) -> bool:
    """Tell whether a session may go on after its stream, or an attempt to resume it, ended like this."""
    return is_lost(failure) or failure.reason in _LATER


@dataclass(frozen=True, slots=True)
class Attempt:
    """One round: after a pause gateways are dialled, and the one that is taken is asked.

    Without `owner` it is not known, not to be asked, or the client's own address.
    """

    owner: str
    # How many connections go to the client's own address.
    dials: int
    # Whether the link itself may be away: then an owner that fails may be there a moment later.
    is_link_doubtful: bool
    pause_seconds: float
    # How long the owner is waited for where another gateway is there, and anybody at all.
    patience_seconds: float
    dial_seconds: float
    # How long the one that is taken has for its answer: a claim may take its time.
    answer_seconds: float


class Attempts:
    """Rounds with growing pauses, the owner in each of them, until a gateway has spoken or the window is over."""

    def __init__(
        self, failure: TrunklineError, owner: str, window_seconds: float, options: ConnectionOptions, now: float
    ) -> None:
        """Begin when the stream was lost. `owner`: empty = not known, or not to be asked."""
        self._failure = failure
        self._owner = owner
        self._window_seconds = window_seconds
        self._over_at = now + window_seconds
        self._options = options
        self._rounds = 0
        self._begun_at = now
        # Rounds in which nobody took a connection in time, and those in which one was asked.
        self._slow_rounds = 0
        self._asked = 0
        self._is_reached = self._is_owner_reached = self._is_cut_short = False
        self._is_link_doubtful = self._is_after_silence
        self._passes_owner_over = False

    @property
    def _is_after_silence(self) -> bool:
        return self._failure.reason == "TIMED_OUT"

    def next(self, now: float, chance: float) -> Attempt:
        """Return the next round. Raises what `too_late` returns when the window ends before it."""
        pause_seconds = max(self._pause_seconds(now, chance), self._advised_seconds())
        left_seconds = self._over_at - now - pause_seconds
        if left_seconds <= 0:
            raise self.too_late()
        self._rounds += 1
        self._begun_at = now + pause_seconds
        self._is_reached = self._is_owner_reached = False
        options = self._options
        patience_seconds = grown(PATIENCE_SECONDS, self._slow_rounds - _PATIENT_AFTER + 1)
        answer_seconds = grown(options.owner_timeout_seconds, self._asked - _PATIENT_AFTER)
        dial_seconds = patience_seconds
        if not self._is_after_silence:
            # Nobody seems to be frozen: it may be the network that is slow.
            dial_seconds = max(dial_seconds, options.owner_timeout_seconds)
        self._is_cut_short = left_seconds < dial_seconds
        return Attempt(
            owner="" if self._passes_owner_over else self._owner,
            dials=self._dials(),
            is_link_doubtful=self._is_link_doubtful,
            pause_seconds=pause_seconds,
            patience_seconds=min(patience_seconds, options.owner_timeout_seconds, left_seconds),
            dial_seconds=min(dial_seconds, options.call_timeout_seconds, left_seconds),
            answer_seconds=min(answer_seconds, options.call_timeout_seconds, left_seconds),
        )

    def too_late(self) -> TrunklineError:
        """Return what ends it with the window: the session cannot be there any more."""
        message = f"not resumed within {self._window_seconds:g} s; the last cause: {self._failure}"
        return refusal("CONNECTION_LOST", message)

    def _dials(self) -> int:
        if self._is_after_silence:
            return _DIALS_AFTER_SILENCE
        return _DIALS_AFTER_FAILURE if self._is_link_doubtful else 1

    def _pause_seconds(self, now: float, chance: float) -> float:
        if not self._rounds:
            return 0.0
        longest_seconds = self._options.resume_backoff_max_seconds
        pause_seconds = chance * min(
            grown(self._options.resume_backoff_first_seconds, self._rounds - 1), longest_seconds
        )
        # From the beginning of the round before: a round that took long has waited enough.
        return max(0.0, pause_seconds - (now - self._begun_at))

    def _advised_seconds(self) -> float:
        return (self._failure.retry_after_seconds or 0.0) if self._failure.reason in _LATER else 0.0

    def reach(self, *, is_owner: bool) -> None:
        """Note that a gateway took the connection of this round, and is asked."""
        self._is_reached, self._is_owner_reached = True, is_owner
        self._asked += 1

    def fail(self, failure: TrunklineError) -> None:
        """Note why a round failed. Raises that if none can succeed."""
        if not may_go_on(failure):
            raise failure
        if self._is_cut_short and not self._is_reached and failure.reason == "TIMED_OUT":
            # By the end of the window, which is no cause.
            return
        self._failure = failure
        self._slow_rounds += self._is_after_silence and not self._is_reached
        self._is_link_doubtful = not self._is_reached
        # One that takes a connection and does not answer may be stuck, or a proxy before nobody. It has
        # another chance if nobody else is there.
        self._passes_owner_over = self._is_owner_reached
        if not is_lost(failure):
            self._owner = ""


class OpeningAttempts(Attempts):
    """The rounds of an `open`, once a gateway that goes away has refused it, in all the time that it has."""

    def __init__(self, window_seconds: float, options: ConnectionOptions, now: float) -> None:
        """Begin before the first gateway is asked."""
        nobody = refusal("CONNECTION_LOST", "no gateway has answered")
        super().__init__(nobody, "", window_seconds, options, now)

    def turn_away(self, refused: TrunklineError) -> None:
        """Note that a gateway refused, for it goes away."""
        self.reach(is_owner=False)
        self.fail(refused)

    def too_late(self) -> TrunklineError:
        """Return what ends it with the window, whoever notices: no gateway that stays has opened."""
        cause = f"; the last cause: {self._failure}" if self._asked else ""
        return refusal("TIMED_OUT", f"no `opened` within {self._window_seconds:g} s{cause}")


def grown(first_seconds: float, doublings: int) -> float:
    """Return a time that doubles, up to the limit of a number."""
    return first_seconds * (1 << min(max(0, doublings), _DOUBLINGS_MAX))
