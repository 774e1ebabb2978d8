"""What goes up before the caller's own words: configuration, history, and the model's first words.

A line that was ready greets so soon that the caller's own hello would cut it. So, once, the model's first words
are not to be interrupted until they have been heard for a moment.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from gateway.core import event_ids
from gateway.core.realtime import encode
from gateway.core.template import merge
from gateway.core.turns import detection_of
from gateway.runtime.opening import Opening, first_words
from gateway.runtime.relay import Relay

# After the first audio, when the caller names no time.
GUARD_MS: Final = 1500
# A greeting that has not begun by then is not coming.
GUARD_MAX_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.05
HISTORY_BATCH: Final = 32


def guarded(session: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration under which speech does not interrupt; without server turns there is nothing to do."""
    return merge(session, _turn_detection(session, interrupts=False))


def is_guarded(opening: Opening) -> bool:
    """Whether the session begins with words that a hello must not cut."""
    if opening.request.greet is None:
        return False
    found = detection_of(opening.session)
    return found is not None and found.get("interrupt_response", True) is not False


def _turn_detection(session: Mapping[str, Any], *, interrupts: bool) -> dict[str, Any]:
    found = detection_of(session)
    if found is None:
        return {}
    return {"audio": {"input": {"turn_detection": {**found, "interrupt_response": interrupts}}}}


async def send_first(relay: Relay, opening: Opening, *, is_configured: bool) -> None:
    """Send what comes before the caller's own words. Nothing is waited for: the caller's first bytes follow at once."""
    greet, session = opening.request.greet, opening.session
    if not is_configured:
        await relay.configure(guarded(session) if is_guarded(opening) else session, event_ids.CONFIG)
    elif is_guarded(opening):
        patch = _turn_detection(session, interrupts=False)
        await relay.configure({"type": session["type"], **patch}, event_ids.CONFIG)
    for number, item in enumerate(opening.request.history, start=1):
        await relay.send(encode(relay.stamped(item)))
        if number % HISTORY_BATCH == 0:  # a socket with room does not wait: let the others have their turn
            await asyncio.sleep(0)
    if greet is not None:
        await relay.send(encode(relay.stamped(first_words(greet))))


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
    # What is put back is what the provider last confirmed: the caller may have changed the rest meanwhile.
    found = conversation.detection
    if conversation.config_rejected or conversation.interruption_set_by or found is None:
        return
    if found.get("interrupt_response") is False:
        patch = {"audio": {"input": {"turn_detection": {**found, "interrupt_response": True}}}}
        await relay.configure({"type": opening.session["type"], **patch}, event_ids.GUARD)
