"""A provider that repeats what it was told: the key when it refuses, the caller's words in all of its errors."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import WSMsgType, web

from tests.support.ports import free_port

_REFUSED_WITH: Final = (401, 403, 404, 400, 429, 500, 503)
_CLOSED_WITH: Final = (1011, 1008, 4000, 1000)
# Who cuts what comes behind it leaves the beginning of a key.
_LENGTH: Final = "so it is " * 31


class MeanProvider:
    """Each of its manners has an address of its own."""

    def __init__(self) -> None:
        self._port = free_port()
        # Of those that were shown.
        self.shown: set[str] = set()

    @property
    def port(self) -> int:
        return self._port

    def url(self, manner: str) -> str:
        return f"ws://127.0.0.1:{self._port}/{manner}"

    async def accept(self, request: web.Request) -> web.StreamResponse:
        """Serve one line."""
        manner = request.match_info["manner"]
        kind, _, number = manner.partition("-")
        key = request.headers["Authorization"].removeprefix("Bearer ")
        if kind in ("refuse", "refuse_at_length"):
            self.shown.add(manner)
            words = f"{_LENGTH * (kind != 'refuse')}{key} is not known"
            body = {"error": {"message": words, "code": key, "type": key, "param": key}}
            return web.json_response(body, status=int(number), headers={"Retry-After": key, "X-Key": key})
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        if kind in _AT_DIAL:
            self.shown.add(manner)
            await _AT_DIAL[kind](socket, key, number)
        else:
            await self._serve(socket, kind, number, manner)
        return socket

    async def _serve(self, socket: web.WebSocketResponse, kind: str, number: str, manner: str) -> None:
        """Be ready as a provider is, and turn mean at the caller's first words."""
        await socket.send_json({"type": "session.created", "session": {"id": "sess_mean", "model": "m"}})
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                break
            heard = json.loads(message.data)
            if heard["type"] == "session.update":
                await socket.send_json({"type": "session.updated", "session": {"id": "sess_mean"}})
            elif kind in _AT_WORDS and (words := _words(heard)):
                self.shown.add(manner)
                await _AT_WORDS[kind](socket, words, number)


def _words(heard: dict[str, Any]) -> str:
    return "".join(part.get("text", "") for part in heard.get("item", {}).get("content", []))


# While a line is made ready.


async def _error_event(socket: web.WebSocketResponse, key: str, _number: str) -> None:
    await socket.send_json({"type": "error", "error": {"message": f"{key}?", "code": key, "type": key}})


async def _close(socket: web.WebSocketResponse, told: str, number: str) -> None:
    await socket.close(code=int(number), message=told.encode()[:120])


async def _garbage(socket: web.WebSocketResponse, told: str, _number: str) -> None:
    await socket.send_str(f'{{"type": "{told}')


# In a call.


async def _error(socket: web.WebSocketResponse, words: str, _number: str) -> None:
    told = {"message": f"{words}?", "code": words, "type": words, "param": words, "event_id": words}
    await socket.send_json({"type": "error", "error": told})


async def _failed_response(socket: web.WebSocketResponse, words: str, _number: str) -> None:
    error = {"type": words, "code": words, "message": words}
    await socket.send_json({"type": "response.created", "response": {"id": "resp_1"}})
    done = {"id": "resp_1", "status": "failed", "status_details": {"type": words, "reason": words, "error": error}}
    await socket.send_json({"type": "response.done", "response": done})


async def _strange_event(socket: web.WebSocketResponse, words: str, _number: str) -> None:
    await socket.send_json({"type": words, words: words})
    await socket.send_json({"type": "conversation.item.done", "item": {"id": words, "type": words, "role": words}})
    await socket.send_json({"type": "response.done", "response": {"id": [words], "status": {words: words}}})
    await socket.send_json({"type": "response.output_audio.delta", "delta": words, "item_id": 7})


async def _broken(socket: web.WebSocketResponse, words: str, _number: str) -> None:
    await socket.send_bytes(b"\xff" + words.encode())
    await socket.send_str(f'{{"type": "response.done", "response": "{words}"')


async def _reset(socket: web.WebSocketResponse, words: str, _number: str) -> None:
    await socket.close(code=1009, message=words.encode()[:120])


_Manner = Callable[[web.WebSocketResponse, str, str], Any]
_AT_DIAL: Final[dict[str, _Manner]] = {"error_at_dial": _error_event, "close_at_dial": _close, "garbage": _garbage}
_AT_WORDS: Final[dict[str, _Manner]] = {
    "error": _error, "failed": _failed_response, "strange": _strange_event, "broken": _broken,
    "close": _close, "reset": _reset,
}  # fmt: skip
AT_DIAL: Final = (
    *(f"refuse-{status}" for status in _REFUSED_WITH),
    *(f"refuse_at_length-{status}" for status in _REFUSED_WITH),
    "error_at_dial", "garbage", *(f"close_at_dial-{code}" for code in _CLOSED_WITH),
)  # fmt: skip
AT_WORDS: Final = ("error", "failed", "strange", "broken", *(f"close-{code}" for code in _CLOSED_WITH), "reset")


def template_for(target: str) -> dict[str, Any]:
    """Return the settings of a template that is dialled there."""
    audio = {"input": {"format": {"type": "audio/pcm", "rate": 24_000}}}
    session = {"output_modalities": ["text"], "audio": audio}
    return {"target": target, "session": session, "recovery": {"user_turns": "none"}}


@asynccontextmanager
async def mean_provider() -> AsyncIterator[MeanProvider]:
    """Run one."""
    provider, app = MeanProvider(), web.Application()
    app.router.add_get("/{manner}", provider.accept)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", provider.port).start()
        yield provider
    finally:
        await runner.cleanup()
