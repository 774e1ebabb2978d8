"""The responses of one session: at most one in the conversation, others beside it.

Answers `response.create` and `response.cancel`, and the caller who speaks up.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol

from gateway.simulator.conversation import Conversation
from gateway.simulator.events import Beat, Code, Event, Refusal, Script, event
from gateway.simulator.items import Item, item_from_client
from gateway.simulator.options import SimulatorOptions
from gateway.simulator.response import Response, Terms
from gateway.simulator.session import REALTIME, Session, complete_format
from gateway.simulator.shapes import RESPONSE

_SIDE_RESPONSES_MAX: Final = 16
_TOKENS_A_MINUTE: Final = 15_000_000
_OVERRIDES: Final = ("output_modalities", "instructions", "tools", "tool_choice", "max_output_tokens")


class Stop(Protocol):
    """Ends a script that is being performed; harmless once it is over."""

    def __call__(self) -> None:
        """Nothing of the script happens after this returns."""


Perform = Callable[[Script], Stop]
"""Plays a script in time, never within the call."""

Send = Callable[[Event], None]


class Responses:
    """What is being answered, and how to stop it."""

    def __init__(
        self,
        options: SimulatorOptions,
        session: Session,
        conversation: Conversation,
        send: Send,
        perform: Perform,
    ) -> None:
        """`perform` plays a script to the same wire as `send`."""
        self._options = options
        self._session = session
        self._conversation = conversation
        self._send = send
        self._perform = perform
        self._running: dict[str, tuple[Response, Stop]] = {}
        self._known_tokens = 0
        self.voice_locked = False
        self.when_created: Callable[[], None] = lambda: None
        self.when_done: Callable[[float], None] = lambda _unheard_ms: None
        """Called when the conversation has been answered: how much of it cannot have been heard yet, in ms."""

    @property
    def active(self) -> bool:
        """Whether the conversation is being answered."""
        return self._in_conversation() is not None

    def create(self, params: object) -> None:
        """Start a response. Raises Refusal."""
        terms = self._terms({} if params is None else params)
        self._check_room(terms)
        response = Response(terms)
        if terms.conversation is not None:
            self.when_created()
        self._send(response.created())
        beats = response.beats(self._options.first_audio_ms, self._options.speed)
        stop = self._perform(Beat(beat.after_ms, partial(self._advance, response, beat)) for beat in beats)
        self._running[response.id] = (response, stop)

    def cancel(self, response_id: object) -> None:
        """Answer `response.cancel`: the named response, or the one in the conversation. Raises Refusal."""
        found = self._running.get(response_id) if isinstance(response_id, str) else None
        if response_id is None:
            found = self._in_conversation()
        if found is None:
            raise Refusal(Code.RESPONSE_CANCEL_NOT_ACTIVE, "Cancellation failed: no active response found")
        self._cut(*found, "client_cancelled")

    def interrupt(self) -> None:
        """Stop answering: the caller speaks."""
        found = self._in_conversation()
        if found is not None:
            self._cut(*found, "turn_detected")

    def _in_conversation(self) -> tuple[Response, Stop] | None:
        return next((each for each in self._running.values() if each[0].terms.conversation is not None), None)

    def _advance(self, response: Response, beat: Beat) -> list[Event]:
        events = beat.events()
        self.voice_locked = self.voice_locked or response.spoke
        return events if response.active else [*events, *self._settle(response)]

    def _cut(self, response: Response, stop: Stop, reason: str) -> None:
        stop()
        for each in [*response.cut(reason), *self._settle(response)]:
            self._send(each)

    def _settle(self, response: Response) -> list[Event]:
        """Forget a response that is done; what follows its last event."""
        self._running.pop(response.id, None)
        if response.terms.conversation is not None:
            self._known_tokens = response.total_tokens
            self.when_done(response.audio_ms * (1 - 1 / self._options.speed))
        if not self._options.rate_limits:
            return []
        remaining = _TOKENS_A_MINUTE - response.total_tokens
        limit = {"name": "tokens", "limit": _TOKENS_A_MINUTE, "remaining": remaining, "reset_seconds": 0.002}
        return [event("rate_limits.updated", rate_limits=[limit])]

    def _check_room(self, terms: Terms) -> None:
        found = self._in_conversation()
        if terms.conversation is not None and found is not None:
            message = (
                f"Conversation already has an active response in progress: {found[0].id}. "
                "Wait until the response is finished before creating a new one."
            )
            raise Refusal(Code.CONVERSATION_ALREADY_HAS_ACTIVE_RESPONSE, message)
        if len(self._running) > _SIDE_RESPONSES_MAX:
            raise Refusal(Code.RATE_LIMIT_EXCEEDED, f"More than {_SIDE_RESPONSES_MAX} responses at a time.")

    def _terms(self, params: object) -> Terms:
        if self._session.kind != REALTIME:
            raise Refusal(Code.INVALID_VALUE, "A transcription session does not respond.", "type")
        RESPONSE("response", params)
        if not isinstance(params, dict):  # the check above has refused it
            raise TypeError(params)
        config = dict(self._session.config) | {name: params[name] for name in _OVERRIDES if name in params}
        self._override_audio(config, params.get("audio", {}).get("output", {}))
        aside = params.get("conversation") == "none"
        return Terms(
            config=config,
            metadata=params.get("metadata"),
            conversation=None if aside else self._conversation,
            given=self._given(params),
            known_tokens=0 if "input" in params else self._known_tokens,
            commentary=self._options.commentary,
        )

    def _override_audio(self, config: dict[str, Any], output: Mapping[str, Any]) -> None:
        current = config["audio"]["output"]
        if self.voice_locked and output.get("voice", current["voice"]) != current["voice"]:
            message = "Cannot update a conversation's voice if assistant audio is present."
            raise Refusal(Code.CANNOT_UPDATE_VOICE, message, "response.audio.output.voice")
        merged = {**current, **output}
        config["audio"] = {
            **config["audio"],
            "output": {**merged, "format": complete_format(merged["format"])},
        }

    def _given(self, params: Mapping[str, Any]) -> tuple[Item, ...]:
        if "input" not in params:
            return tuple(self._conversation)
        return tuple(self._input_item(each, f"response.input[{index}]") for index, each in enumerate(params["input"]))

    def _input_item(self, sent: Mapping[str, Any], path: str) -> Item:
        if sent["type"] != "item_reference":
            return item_from_client(sent, path, self._session.input_format)
        found = self._conversation.find(sent["id"])
        if found is None:
            raise Refusal(Code.INVALID_VALUE, f"Item with id '{sent['id']}' not found.", f"{path}.id")
        return found
