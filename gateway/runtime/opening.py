"""How a session begins: its first message, what it asks for, and what goes up before the caller's own words."""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from msgspec import structs

from gateway.core import events as out
from gateway.core import record
from gateway.core.continuity import Continuity
from gateway.core.errors import CallerError, Reason
from gateway.core.ids import LeaseId
from gateway.core.principal import Principal
from gateway.core.template import configuration
from gateway.runtime.pool import WarmPool
from gateway.runtime.pools import find_pool
from gateway.runtime.ports import CallerGoneError, CallerStream
from gateway.runtime.reservations import Redeemed
from gateway.runtime.session_options import SessionParts

DEFAULT_TEMPLATE: Final = "default"
# The safety class whose lines are dialled for one end user.
END_USER: Final = "end_user"


@dataclass(frozen=True, slots=True)
class Opening:
    """What a caller is to get."""

    request: out.OpenRequest
    pool: WarmPool
    # The whole configuration: the template's with the caller's overrides.
    session: dict[str, Any]
    # The reservation that the caller came with: here, or at another gateway (`foreign`).
    reservation: LeaseId | None = None
    foreign: bool = False


async def first_message(
    stream: CallerStream, ended: "asyncio.Future[Any]", timeout_seconds: float
) -> out.OpenRequest | out.ResumeRequest:
    """Return the `open` or `resume`. Raises `GatewayError`, and `CallerGoneError` when `ended` is done first."""
    try:
        async with asyncio.timeout(timeout_seconds):
            message = await _unless_done(stream.read(), ended)
    except TimeoutError:
        text = f"no open or resume came within {timeout_seconds:.0f} s"
        raise CallerError(Reason.FIRST_FRAME_EXPECTED, text) from None
    match message:
        case out.OpenRequest(unserved=()):
            return message
        case out.OpenRequest():
            text = f"open: not served yet: {', '.join(message.unserved)}"
            raise CallerError(Reason.NOT_IMPLEMENTED_YET, text)
        case out.ResumeRequest():
            return message
        case out.Refused():
            raise message.error
    raise CallerError(Reason.FIRST_FRAME_EXPECTED, "the first message must be open or resume")


async def prepare(request: out.OpenRequest, principal: Principal, parts: SessionParts) -> Opening:
    """Find out what an `open` asks for. Raises `CallerError` for what cannot be had."""
    redeemed = Redeemed("", None, foreign=False)
    if request.lease_token:
        redeemed = parts.reservations.look(request.lease_token, principal)
    name = request.template or redeemed.pool or DEFAULT_TEMPLATE
    # The home of a reservation may be a pool that takes nobody new any more.
    home = redeemed.home if name == redeemed.pool else None
    pool = home or find_pool(parts.pools.values(), name, principal.tenant)
    if redeemed.pool not in ("", name):
        text = f"the reservation is for template {redeemed.pool}, not for {name}"
        raise CallerError(Reason.INVALID_FRAME, text)
    if request.safety_identifier and pool.template.line_class.safety != END_USER:
        text = f"the account of template {pool.name} takes no safety identifier"
        raise CallerError(Reason.SAFETY_IDENTIFIER_REFUSED, text)
    session = configuration(pool.template, request.overrides)
    if not request.lease_token:  # a reservation is counted already
        parts.tenants.check(pool.template.line_class.account, principal.tenant)
    if redeemed.foreign:  # what would be refused must not use up a unit that another gateway keeps
        pool.check_open()
    if request.lease_token:  # last, so that a refusal burns nothing
        await parts.reservations.redeem(request.lease_token, principal)
    return Opening(request, pool, session, redeemed.lease_id, redeemed.foreign)


def named(opening: Opening, continuity: Continuity) -> Opening:
    """Return it with a name for each item of its history: the log and the line call them the same."""
    history = tuple(continuity.named(item) for item in opening.request.history)
    return replace(opening, request=structs.replace(opening.request, history=history))


def entry_of(opening: Opening, trace: str) -> record.Opening:
    """Return what another owner of the session would have to know of its beginning; `trace` = its span."""
    request = opening.request
    greeting = () if request.greet is None else (first_words(request.greet),)
    return record.Opening(
        template=opening.pool.name,
        session=opening.session,
        safety_identifier=request.safety_identifier,
        correlation_id=request.correlation_id,
        metadata=request.metadata,
        life_max_seconds=request.life_max_seconds,
        idle_max_seconds=request.idle_max_seconds,
        moves=request.moves,
        first=(*request.history, *greeting),
        trace=trace,
    )


def first_words(greet: out.Greet) -> Mapping[str, Any]:
    """Return the request for the model's first words."""
    if not greet.instructions:
        return {"type": "response.create"}
    return {"type": "response.create", "response": {"instructions": greet.instructions}}


async def _unless_done(
    work: Coroutine[Any, Any, out.CallerMessage | None], ended: "asyncio.Future[Any]"
) -> out.CallerMessage | None:
    """Wait for `work`, but no longer than the session lasts."""
    task = asyncio.ensure_future(work)
    waiting: set[asyncio.Future[Any]] = {task, ended}
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise CallerGoneError
        return task.result()
    finally:
        task.cancel()
