"""The `/_sim` endpoints: who is connected, what turns held, which faults are set, and a close for many at once."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

import msgspec
from aiohttp import web

from gateway.simulator.faults import Fault, FaultError, Scope, fault_from_object
from gateway.simulator.faults.keys import CLOSE_CODE, COUNT, REASON, Reader

_FAULTS_MAX: Final = 100
_CLOSE_CODE: Final = 1001
_Handler = Callable[[web.Request], Awaitable[web.Response]]


class Controlled(Protocol):
    """What the endpoints work on."""

    def observe(self) -> dict[str, object]:
        """Return every socket and the totals."""

    def committed(self) -> dict[str, object]:
        """Return what committed turns held."""

    def faults(self) -> dict[str, object]:
        """Return the active set."""

    def set_faults(self, faults: tuple[Fault, ...], scope: Scope) -> None:
        """Replace the active set."""

    def close_open(self, code: int, reason: str, count: int | None, session_id: str | None) -> int:
        """Close open sockets, the oldest first, or the one of a session; how many."""


class Control:
    """Answers on the `/_sim` paths. What it cannot read is answered 400 with a sentence."""

    def __init__(self, controlled: Controlled) -> None:
        """Serve one simulator."""
        self._controlled = controlled

    def routes(self) -> list[web.RouteDef]:
        """Return the paths."""
        return [
            web.get("/_sim/connections", self._connections),
            web.get("/_sim/committed", self._committed),
            web.get("/_sim/faults", self._faults),
            web.post("/_sim/faults", _reading(self._set_faults)),
            web.post("/_sim/close", _reading(self._close)),
        ]

    async def _connections(self, _: web.Request) -> web.Response:
        return _json({"time": time.time(), **self._controlled.observe()})

    async def _committed(self, _: web.Request) -> web.Response:
        return _json(self._controlled.committed())

    async def _faults(self, _: web.Request) -> web.Response:
        return _json(self._controlled.faults())

    async def _set_faults(self, request: web.Request) -> web.Response:
        sent = await _object(request, ("faults", "scope"))
        wanted = sent.get("faults")
        if not isinstance(wanted, list) or len(wanted) > _FAULTS_MAX:
            message = f"faults must be a list of at most {_FAULTS_MAX} faults"
            raise FaultError(message)
        if sent.get("scope", Scope.NEW) not in tuple(Scope):
            message = f"scope must be one of {', '.join(Scope)}"
            raise FaultError(message)
        self._controlled.set_faults(tuple(map(fault_from_object, wanted)), Scope(sent.get("scope", Scope.NEW)))
        return _json(self._controlled.faults())

    async def _close(self, request: web.Request) -> web.Response:
        sent = await _object(request, ("code", "reason", "count", "session_id"))
        count, session_id = sent.get("count"), sent.get("session_id")
        if not isinstance(session_id, str | None):
            message = f"session_id must be a text, not {session_id!r:.80}"
            raise FaultError(message)
        closed = self._controlled.close_open(
            _read(CLOSE_CODE, "code", sent.get("code", _CLOSE_CODE)),
            _read(REASON, "reason", sent.get("reason", "")),
            None if count is None else _read(COUNT, "count", count),
            session_id,
        )
        return _json({"closed": closed})


def _reading(handler: _Handler) -> _Handler:
    async def answer(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except FaultError as error:
            return _json({"error": str(error)}, status=400)

    return answer


async def _object(request: web.Request, names: tuple[str, ...]) -> Mapping[str, Any]:
    try:
        sent = msgspec.json.decode(await request.read() or b"{}")
    except msgspec.DecodeError as error:
        message = f"the body is not JSON: {error}"
        raise FaultError(message) from None
    if not isinstance(sent, dict) or not sent.keys() <= set(names):
        message = f"the body must be an object with no keys but {', '.join(names)}"
        raise FaultError(message)
    return sent


def _read(reader: Reader, name: str, value: object) -> Any:
    try:
        return reader.convert(value)
    except (ValueError, TypeError, OverflowError):
        message = f"{name} must be {reader.expected}, not {value!r}"
        raise FaultError(message) from None


def _json(answer: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), status=status, content_type="application/json")
