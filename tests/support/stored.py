"""A gateway that keeps its sessions for a while, and callers of two tenants who ask for them."""

import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from trunkline.v1 import control_pb2 as control
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import session_pb2_grpc

from tests.support.calls import SECONDS, Caller, Refusal, refusal_of
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, plain_redis
from tests.support.stack import Running, caller_settings, gateway_on, pool, simulator
from tests.support.steering import Operator

TOKENS: Final = {"bot": "token-of-bot", "colleague": "token-of-colleague", "stranger": "token-of-stranger"}
OPERATOR: Final = "token-of-an-operator"
TENANTS: Final = {"bot": "acme", "colleague": "acme", "stranger": "umbrella"}
TEXT: Final = control.SessionOverrides(output_modality=control.OUTPUT_MODALITY_TEXT)
KEPT_SECONDS: Final = 60


async def session_of(channel: grpc.aio.Channel, session_id: str, token: str = "") -> session.GetSessionResponse:
    """Ask for a session."""
    stub: Any = session_pb2_grpc.SessionServiceStub(channel)
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    found: session.GetSessionResponse = await stub.GetSession(
        session.GetSessionRequest(session_id=session_id), timeout=SECONDS, metadata=metadata
    )
    return found


@dataclass
class Keeping:
    """A gateway with three callers of two tenants, on a Redis of its own."""

    running: Running
    redis: RedisServer

    def caller(self, name: str = "bot") -> Caller:
        return self.running.caller(TOKENS[name])

    @property
    def operator(self) -> Operator:
        return Operator(self.running.channel, OPERATOR)

    async def get(self, session_id: str, name: str = "bot") -> session.GetSessionResponse:
        return await session_of(self.running.channel, session_id, TOKENS[name])

    async def refused(self, session_id: str, name: str = "bot") -> Refusal:
        try:
            found = await self.get(session_id, name)
        except grpc.aio.AioRpcError as error:
            return refusal_of(error)
        raise AssertionError(f"it was answered: {found}")


@contextlib.asynccontextmanager
async def keeping(retention_seconds: int = KEPT_SECONDS, **changes: Any) -> AsyncIterator[Keeping]:
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tk", dir="/tmp")))
        redis = stack.enter_context(plain_redis())
        sim = await stack.enter_async_context(simulator())
        sections = {
            "redis": redis.settings["redis"],
            "store": {**redis.settings["store"], "retention_seconds": retention_seconds},
            "callers": [
                caller_settings(folder, token, "converse", name=name, tenant=TENANTS[name])
                for name, token in TOKENS.items()
            ]
            + [caller_settings(folder, OPERATOR, "read", "admin", name="operator")],
            "pools": {"default": pool(floor=2, demand={"enabled": False})},
            "grpc": {"address": f"127.0.0.1:{free_port()}", "advertise": "gateway-7:50051"},
            **changes,
        }
        running = await stack.enter_async_context(gateway_on(sim.url, insecure_dev=False, **sections))
        yield Keeping(running, redis)


async def text_turn(caller: Caller, words: str) -> str:
    """Ask and be answered; return the answer."""
    await caller.say(words)
    await caller.answer_please()
    await caller.until("response_done")
    answer: str = [each.text for each in caller.all("item_done") if each.role == "assistant"][-1]
    return answer


async def ends(caller: Caller) -> None:
    await caller.bye()
    await caller.rest()
