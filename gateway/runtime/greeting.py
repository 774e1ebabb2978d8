"""What goes up before the caller's own words: configuration, history, and the model's first words.

A line that was ready greets so soon that the caller's own hello would cut it. So, once, the model's first words
are not to be interrupted until they have been heard for a moment.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from gateway.core import events as out
from gateway.core.conversation import CONFIG_EVENT_ID
from gateway.core.realtime import encode, session_update
from gateway.core.template import merge
from gateway.runtime.opening import Opening
from gateway.runtime.relay import Relay

# After the first audio, when the caller names no time.
GUARD_MS: Final = 1500
# A greeting that has not begun by then is not coming.
GUARD_MAX_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.05
_GUARD_EVENT_ID: Final = "tl-guard"
_SERVER_VAD: Final = {"type": "server_vad"}


def guarded(session: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration under which speech does not interrupt; without server turns there is nothing to do."""
    return merge(session, _turn_detection(session, interrupts=False))


def is_guarded(opening: Opening) -> bool:
    """Whether the session begins with words that a hello must not cut."""
    if opening.request.greet is None:
        return False
    found = _detection(opening.session)
    return found is not None and found.get("interrupt_response", True) is not False


def _turn_detection(session: Mapping[str, Any], *, interrupts: bool) -> dict[str, Any]:
    found = _detection(session)
    if found is None:
        return {}
    return {"audio": {"input": {"turn_detection": {**found, "interrupt_response": interrupts}}}}


def _detection(session: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """How the server ends turns; None = it does not, or what stands there is not to be understood."""
    if session.get("type") == "transcription":
        return None
    section: Any = session
    for name in ("audio", "input"):
        section = section.get(name, {})
        if not isinstance(section, Mapping):
            return None
    found = section.get("turn_detection", _SERVER_VAD)
    return found if isinstance(found, Mapping) else None


async def send_first(relay: Relay, opening: Opening, *, is_configured: bool) -> None:
    """Send what comes before the caller's own words. Nothing is waited for: the caller's first bytes follow at once."""
    greet, session = opening.request.greet, opening.session
    if not is_configured:
        await relay.send(session_update(guarded(session) if is_guarded(opening) else session, CONFIG_EVENT_ID))
    elif is_guarded(opening):
        patch = _turn_detection(session, interrupts=False)
        await relay.send(session_update({"type": session["type"], **patch}, CONFIG_EVENT_ID))
    for item in opening.request.history:
        await relay.send(encode(relay.stamped(item)))
    if greet is not None:
        await relay.send(encode(relay.stamped(_first_words(greet))))


async def lift_guard(relay: Relay, opening: Opening) -> None:
    """Let speech interrupt again, once the first words have been heard for a moment; then rest."""
    greet = opening.request.greet
    if greet is None or not is_guarded(opening):
        return
    now, conversation = asyncio.get_running_loop().time, relay.conversation
    ends_at = now() + GUARD_MAX_SECONDS
    while now() < ends_at and not conversation.tally.responses:
        await asyncio.sleep(LOOK_SECONDS)
        if conversation.first_heard_at is not None:
            ends_at = min(ends_at, conversation.first_heard_at + (greet.guard_ms or GUARD_MS) / 1000)
    if not conversation.caller_sets_turns:
        patch = _turn_detection(opening.session, interrupts=True)
        await relay.send(session_update({"type": opening.session["type"], **patch}, _GUARD_EVENT_ID))


def _first_words(greet: out.Greet) -> Mapping[str, Any]:
    if not greet.instructions:
        return {"type": "response.create"}
    return {"type": "response.create", "response": {"instructions": greet.instructions}}
