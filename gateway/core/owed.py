"""Which answers a line owes: asked for by the caller, or due to a turn that the provider has ended itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.core.asked import ASKED_MAX

Request = Mapping[str, Any]
# Why an answer ended that its line had not given, and for which the next one is asked.
ASKED_AGAIN: Final = "asked_again"


@dataclass(slots=True)
class _Answer:
    """An answer under way: the request for it; None = the provider answers a turn by itself."""

    request: Request | None
    # Whether it has done something that must not be done twice, or that was heard.
    has_begun: bool = False

    @property
    def is_apart(self) -> bool:
        """Whether it is none of the conversation's: the caller has asked for it beside."""
        response = (self.request or {}).get("response")
        return isinstance(response, Mapping) and response.get("conversation") == "none"


@dataclass(slots=True)
class Begun:
    """An item of an answer that is not complete: its words so far, and how much of its audio came and went out."""

    response_id: str
    is_written: bool = False
    words: list[str] = field(default_factory=list)
    sent_ms: int = 0
    received_ms: int = 0


class Owed:
    """The answers of one conversation that have not ended."""

    def __init__(self) -> None:
        """Begin with none."""
        # By event id: what was asked for and has not been answered.
        self._requests: dict[str, Request] = {}
        self._answers: dict[str, _Answer] = {}
        self._to_a_turn = False

    @property
    def is_open(self) -> bool:
        """Whether an answer is owed or under way."""
        return bool(self._requests or self._answers or self._to_a_turn)

    def ask(self, event_id: str, event: Request) -> None:
        """Record a request. Of very many that nothing comes of the newest count."""
        self._requests[event_id] = event
        while len(self._requests) > ASKED_MAX:
            del self._requests[next(iter(self._requests))]

    def refuse(self, event_id: str) -> None:
        """Record that a request was refused."""
        self._requests.pop(event_id, None)

    def turn_ended(self, *, is_answered: bool) -> None:
        """Record that the provider has ended a turn, which it answers by itself or not."""
        self._to_a_turn = is_answered

    def cancel(self, response_id: object) -> None:
        """Record that an answer is not wanted any more; without a name that is every one."""
        for known, answer in self._answers.items():
            answer.has_begun = answer.has_begun or response_id in (None, "", known)
        if not response_id:
            self._requests.clear()
            self._to_a_turn = False

    def begin(self, response_id: str) -> None:
        """Record that the provider has begun an answer."""
        request: Request | None = None
        if self._to_a_turn:
            self._to_a_turn = False
        elif self._requests:
            request = self._requests.pop(next(iter(self._requests)))
        self._answers[response_id] = _Answer(request)

    def say(self, response_id: str) -> None:
        """Record that an answer was heard, or has done something."""
        if (answer := self._answers.get(response_id)) is not None:
            answer.has_begun = True

    def is_apart(self, response_id: str) -> bool:
        """Whether an answer is none of the conversation's."""
        answer = self._answers.get(response_id)
        return answer is not None and answer.is_apart

    def is_asked_again(self, response_id: str) -> bool:
        """Whether the next line is asked for an answer again that this one has not given."""
        answer = self._answers.get(response_id)
        return answer is not None and not answer.has_begun

    def end(self, response_id: str) -> None:
        """Record that an answer has ended; a log does not tell when it began."""
        if response_id not in self._answers:
            self.begin(response_id)
        del self._answers[response_id]

    def line_lost(self) -> None:
        """Record that the line is gone: what had not begun is owed still."""
        for number, answer in enumerate(self._answers.values()):
            if not answer.has_begun and answer.request is None:
                self._to_a_turn = True
            elif not answer.has_begun and answer.request is not None:
                self._requests = {f"again-{number}": answer.request, **self._requests}
        self._answers.clear()

    def requests(self) -> tuple[Request, ...]:
        """Return what a fresh line is to be asked for."""
        auto: tuple[Request, ...] = ({"type": "response.create"},) if self._to_a_turn else ()
        return (*auto, *self._requests.values())

    def asked_again(self) -> None:
        """Record that a fresh line is being asked: its requests are recorded anew."""
        self._requests.clear()
        self._to_a_turn = False
