"""Every fault by its kind, and how it is asked for: in one line of text, or as an object of JSON."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from types import MappingProxyType
from typing import Any, Final

from gateway.simulator.faults.distorting import GarbageJson, SlowDeltas, WrongOrder
from gateway.simulator.faults.ending import AcceptThenClose, Close, Expire, IdleClose
from gateway.simulator.faults.fault import Fault
from gateway.simulator.faults.keys import FaultError
from gateway.simulator.faults.muting import HalfOpen, Mute, NoSessionCreated, Silence, StuckResponse
from gateway.simulator.faults.opening import ConnectDelay, Handshake, HandshakeHang

_ALL: Final[tuple[type[Fault], ...]] = (
    AcceptThenClose,
    Close,
    ConnectDelay,
    Expire,
    GarbageJson,
    HalfOpen,
    Handshake,
    HandshakeHang,
    IdleClose,
    Mute,
    NoSessionCreated,
    Silence,
    SlowDeltas,
    StuckResponse,
    WrongOrder,
)
FAULTS: Final[Mapping[str, type[Fault]]] = MappingProxyType({each.kind: each for each in _ALL})
"""Kind → class."""


def keys_of(kind: type[Fault]) -> list[str]:
    """Return the keys of a fault, its own before those of all."""
    names = [each.name for each in fields(kind)]
    common = len(fields(Fault))
    return names[common:] + names[:common]


def fault_from_text(text: str) -> Fault:
    """Read `KIND` or `KIND:key=value,key=value`. Raises FaultError."""
    kind, colon, rest = text.partition(":")
    given: dict[str, Any] = {}
    for pair in rest.split(",") if colon else ():
        name, equals, value = pair.partition("=")
        if not equals:
            message = f"fault '{kind}': '{pair}' is not key=value"
            raise FaultError(message)
        given[name.strip()] = value.strip()
    return _make(kind.strip(), given)


def fault_from_object(sent: object) -> Fault:
    """Read `{"kind": KIND, key: value}`. Raises FaultError."""
    if not isinstance(sent, dict) or not isinstance(sent.get("kind"), str):
        message = f"a fault is an object with a kind, not {sent!r:.80}"
        raise FaultError(message)
    return _make(sent["kind"], {name: value for name, value in sent.items() if name != "kind"})


def _make(kind: str, given: Mapping[str, Any]) -> Fault:
    made = FAULTS.get(kind)
    if made is None:
        message = f"there is no fault '{kind}'; there are: {', '.join(FAULTS)}"
        raise FaultError(message)
    keys = keys_of(made)
    for name in given:
        if name not in keys:
            message = f"fault '{kind}' has no key '{name}'; it has: {', '.join(keys)}"
            raise FaultError(message)
    missing = [each.name for each in fields(made) if each.default is MISSING and each.name not in given]
    if missing:
        message = f"fault '{kind}' needs: {', '.join(missing)}"
        raise FaultError(message)
    return made(**given)
