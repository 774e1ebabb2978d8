"""What a fresh line answers to what it was told: heard by nobody but us."""

import json
from typing import Any

from gateway.core import events as out
from gateway.core.errors import Reason
from gateway.core.restoration import Restoration

TOLD: list[dict[str, Any]] = [
    {"type": "conversation.item.create", "event_id": "e1", "item": {"id": "u1", "type": "message"}},
    {"type": "conversation.item.create", "event_id": "e2", "item": {"id": "a1", "type": "message"}},
    {"type": "response.create", "event_id": "e3"},
]


def item_event(kind: str, item_id: str) -> bytes:
    return json.dumps({"type": f"conversation.item.{kind}", "event_id": "x", "item": {"id": item_id}}).encode()


def test_the_items_that_it_was_told_are_not_told_again() -> None:
    restoration = Restoration(TOLD)
    for item_id in ("u1", "a1"):
        assert restoration.takes_raw(item_event("added", item_id))
        assert restoration.takes(out.ItemDone(item_id, "message", "user", "words"))
    assert restoration.is_over
    assert not restoration.takes(out.ItemDone("u1", "message", "user", "words"))


def test_what_is_new_is_told() -> None:
    restoration = Restoration(TOLD)
    assert not restoration.takes_raw(item_event("added", "new"))
    assert not restoration.takes_raw(item_event("deleted", "u1"))
    assert not restoration.takes_raw(b'{"type": "conversation.item.added", "item": 5}')
    assert not restoration.takes(out.ItemDone("new", "message", "user", "words"))
    assert not restoration.takes(out.UserTranscript("words", "u1"))
    assert not restoration.takes(out.SessionUpdated("{}"))


def test_a_configuration_that_was_put_back_is_not_told() -> None:
    restoration = Restoration((), is_configured=False)
    assert not restoration.is_over
    assert restoration.takes(out.SessionUpdated("{}"))
    assert restoration.is_over
    assert not restoration.takes(out.SessionUpdated("{}")), "the next one is the caller's"


def test_an_item_that_it_refuses_is_named_and_waited_for_no_more() -> None:
    restoration = Restoration(TOLD)
    assert restoration.refused(out.ErrorEvent(Reason.INVALID_FRAME, "no", event_id="e1")) == "u1"
    assert restoration.refused(out.ErrorEvent(Reason.INVALID_FRAME, "no", event_id="e3")) == ""
    assert restoration.refused(out.ErrorEvent(Reason.INVALID_FRAME, "no", event_id="e1")) == ""
    restoration.takes(out.ItemDone("a1", "message", "assistant", "words"))
    assert restoration.is_over


def test_an_item_that_the_caller_was_not_told_of_is_told_by_the_fresh_line() -> None:
    restoration = Restoration(TOLD, unconfirmed={"u1"})
    assert not restoration.takes_raw(item_event("added", "u1"))
    assert not restoration.takes(out.ItemDone("u1", "message", "user", "words"))
    assert restoration.takes(out.ItemDone("a1", "message", "assistant", "words"))
    assert restoration.is_over
