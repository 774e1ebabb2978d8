"""The attacks, by name: the fields of `flood_child.Attack`."""

from typing import Any, Final

from trunkline.v1 import control_pb2 as control
from trunkline.v1 import session_pb2 as session

from tests.support import http2
from tests.support.flood import FULL_SPEED
from tests.support.flood_child import client_hello
from tests.support.siege import FOE, FOES_TEMPLATE

SOCKETS: Final = 2000
# All of them within 4 s, where the processor has time for it; then until the last one is closed.
_SOCKETS: Final[dict[str, Any]] = {"connections": SOCKETS, "per_second": 500.0, "seconds": 16.0}
HELLO: Final = http2.PREFACE + http2.SETTINGS

SILENT: Final = dict(_SOCKETS)
TLS_STALLED: Final = {**_SOCKETS, "greeting": client_hello()}
TLS_HALF: Final = {**_SOCKETS, "greeting": client_hello()[:100]}
PREFACE_ONLY: Final = {**_SOCKETS, "greeting": http2.PREFACE}
NEVER_ACKNOWLEDGED: Final = {**_SOCKETS, "greeting": HELLO}

# Of peers who acknowledge, and stay.
_POLITE: Final[dict[str, Any]] = {"greeting": HELLO, "answers": True, "token": FOE}
NEVER_OPENED: Final = {**_SOCKETS, **_POLITE, "streams": 1, "hangs_up": True}
ANONYMOUS: Final = {**NEVER_OPENED, "token": ""}
# Who does not acknowledge is not held to gRPC's limit.
METADATA: Final = {**_POLITE, "answers": False, "connections": 16, "per_second": 2.0, "streams": 4} | {
    "metadata_bytes": 200_000
}
_OPEN: Final = session.ConverseRequest(open=session.Open(template=FOES_TEMPLATE)).SerializeToString()


def _messages(request: session.ConverseRequest, per_second: float, streams: int) -> dict[str, Any]:
    """Return streams that begin one after the other, over 8 s, and then send and send."""
    return {
        **_POLITE,
        "connections": streams,
        "per_second": streams / 8,
        "streams": 1,
        "first": _OPEN,
        "message": request.SerializeToString(),
        "messages_per_second": per_second,
    }


_AUDIO: Final = session.ConverseRequest(audio=bytes(960))
_TEXT: Final = session.ConverseRequest(control=control.Control(text=control.TextInput(text="Hello there")))

AT_THE_LIMIT: Final = {**_messages(_AUDIO, 200.0, 2), "per_second": 100.0}
AUDIO: Final = _messages(_AUDIO, FULL_SPEED, 4)
TEXT: Final = _messages(_TEXT, FULL_SPEED, 8)
EMPTY: Final = _messages(session.ConverseRequest(), FULL_SPEED, 8)
OVER_OUR_LIMIT: Final = _messages(session.ConverseRequest(audio=bytes(300_000)), FULL_SPEED, 8)
OVER_GRPCS_LIMIT: Final = _messages(session.ConverseRequest(audio=bytes(600_000)), FULL_SPEED, 8)
# Who never takes anything off the gateway's hands; anybody may open here.
UNREAD: Final = {**TEXT, "connections": 1, "per_second": 10.0, "streams": 20, "reads": False, "token": ""} | {
    "first": session.ConverseRequest(open=session.Open()).SerializeToString()
}
