"""Faults as they are asked for: read, refused in a sentence, shown again as they were read."""

from typing import Any

import pytest

from gateway.simulator import FAULTS, FaultError, fault_from_object, fault_from_text, keys_of


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("crash", "there is no fault 'crash'; there are: accept-then-close, close, connect-delay"),
        ("close:colour=red", "fault 'close' has no key 'colour'; it has: code, reason, at, probability"),
        ("close:code", "fault 'close': 'code' is not key=value"),
        ("close:code=999", "fault 'close': code must be 0 or a close code from 1000 to 4999, not '999'"),
        ("close:at=noon", "fault 'close': at must be one of now, created, updated, first-audio"),
        ("close:at=after-seconds:-1", "fault 'close': at must be"),
        ("close:probability=2", "fault 'close': probability must be a number from 0 to 1, not '2'"),
        ("close:probability=nan", "fault 'close': probability must be"),
        ("close:count=1.5", "fault 'close': count must be a whole number"),
        ("handshake", "fault 'handshake' needs: status"),
        ("handshake:status=418", "fault 'handshake': status must be one of 401, 403, 404, 429, 500, 503, not '418'"),
        ("mute:events=", "fault 'mute': events must be a list of event types"),
        ("slow-deltas", "fault 'slow-deltas' needs factor"),
        ("expire:seconds=inf", "fault 'expire': seconds must be a number from 0.001 to 86400, not 'inf'"),
    ],
)
def test_a_wrong_fault_is_refused_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(FaultError) as refused:
        fault_from_text(text)
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ({}, "a fault is an object with a kind, not {}"),
        ("close", "a fault is an object with a kind, not 'close'"),
        ({"kind": 5}, "a fault is an object with a kind"),
        ({"kind": "close", "code": None}, "fault 'close': code must be"),
        ({"kind": "close", "code": True}, "fault 'close': code must be"),
        ({"kind": "mute", "events": 5}, "fault 'mute': events must be"),
        ({"kind": "mute", "events": [5]}, "fault 'mute': events must be"),
        ({"kind": "close", "reason": "x" * 124}, "fault 'close': reason must be a text of at most 123 bytes"),
    ],
)
def test_a_wrong_object_is_refused_in_one_sentence(sent: Any, sentence: str) -> None:
    with pytest.raises(FaultError) as refused:
        fault_from_object(sent)
    assert str(refused.value).startswith(sentence)


# What must be given, and a value of it.
REQUIRED: dict[str, dict[str, Any]] = {
    "connect-delay": {"ms": 250.0},
    "expire": {"seconds": 20.0},
    "handshake": {"status": 429},
    "idle-close": {"seconds": 5.0},
    "mute": {"events": ["response.*", "error"]},
    "slow-deltas": {"factor": 4.0},
    "wrong-order": {"variant": "everything-twice"},
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_shown_as_it_can_be_set_again(kind: str) -> None:
    sent = {"kind": kind, **REQUIRED.get(kind, {}), "probability": 0.5, "count": 3, "for_seconds": 60.0}
    fault = fault_from_object(sent)
    shown = fault.describe()
    assert shown | sent == shown
    assert list(shown) == ["kind", *keys_of(type(fault))]
    assert fault_from_object(shown) == fault


@pytest.mark.parametrize("kind", FAULTS)
def test_words_and_objects_mean_the_same(kind: str) -> None:
    given = REQUIRED.get(kind, {})
    words = ",".join(f"{name}={'+'.join(each) if isinstance(each, list) else each}" for name, each in given.items())
    assert fault_from_text(f"{kind}:{words}" if words else kind) == fault_from_object({"kind": kind, **given})


def test_a_moment_may_hold_a_colon() -> None:
    assert fault_from_text("close:at=after-seconds:2.5").describe()["at"] == "after-seconds:2.5"
