"""What operators are shown, from what the runtime knows."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from trunkline.v1 import admin_pb2, types_pb2

from gateway.core.pool_limits import together
from gateway.rpc.responses import usage
from gateway.runtime.lease import HeldReservation, LeasedLine
from gateway.runtime.pool import WarmPool
from gateway.runtime.session import LiveSession

# One answer stays below the 4 MiB that a gRPC client accepts unless told otherwise.
SESSIONS_MAX_BYTES: Final = 3 << 20


def pool(source: WarmPool, gateway: str) -> admin_pb2.Pool:
    """Show one pool now."""
    return whole([source], gateway)


def whole(sources: Sequence[WarmPool], gateway: str) -> admin_pb2.Pool:
    """Show the pools of one template as one: several tenants may have lines of their own."""
    stats, template = together([each.stats() for each in sources]), sources[0].template
    line, tenants = template.line_class, " ".join(each.tenant for each in sources)
    return admin_pb2.Pool(
        name=template.name,
        gateway=gateway,
        template_version=template.version,
        line_class=f"{line.target} {line.model} {line.account}" + (f" for {tenants}" if tenants else ""),
        dialling=stats.dialling,
        warm=stats.ready,
        leased=stats.leased,
        draining=stats.draining,
        waiting=stats.waiting,
        oldest_wait_ms=_ms(stats.oldest_wait_seconds),
        floor=stats.floor,
        ceiling=stats.ceiling,
        paused=stats.paused,
        is_draining=stats.draining_pool,
        breaker_open=stats.breaker_open,
        key_refused=stats.key_refused,
        acquires=sum((each.acquires for each in sources), Counter[str]()),
        last_dial_failure=stats.last_failure or "",
    )


def leases(source: WarmPool, gateway: str) -> list[admin_pb2.Lease]:
    """Show the leases and reservations of one pool now."""
    return [
        *(_lease(source.name, line, gateway) for line in source.leases.values()),
        *(_reservation(each, gateway) for each in source.living_reservations()),
    ]


def _lease(pool_name: str, line: LeasedLine, gateway: str) -> admin_pb2.Lease:
    holder = line.holder
    return admin_pb2.Lease(
        lease_id=line.lease_id,
        gateway=gateway,
        pool=pool_name,
        kind=admin_pb2.LEASE_KIND_SESSION,
        tenant=holder.tenant,
        caller=holder.caller,
        session_id=holder.session_id,
        upstream_session_id=line.upstream.session_id,
        held_ms=_ms(_now() - line.granted_at),
        correlation_id=holder.correlation_id,
    )


def _reservation(each: HeldReservation, gateway: str) -> admin_pb2.Lease:
    return admin_pb2.Lease(
        lease_id=each.lease_id,
        gateway=gateway,
        pool=each.pool,
        kind=admin_pb2.LEASE_KIND_RESERVATION,
        tenant=each.holder.tenant,
        caller=each.holder.caller,
        held_ms=_ms(_now() - each.granted_at),
        expires_in_ms=_ms(each.expires_at - _now()),
        correlation_id=each.holder.correlation_id,
    )


def sessions(live: Iterable[LiveSession], gateway: str) -> list[admin_pb2.Session]:
    """Show sessions now. Where they are too many for one answer, the later ones come without their marks."""
    shown, size_bytes = [], 0
    for each in live:
        view = session(each, gateway)
        if size_bytes + view.ByteSize() > SESSIONS_MAX_BYTES:
            view.ClearField("metadata")
        size_bytes += view.ByteSize()
        shown.append(view)
    return shown


def session(live: LiveSession, gateway: str) -> admin_pb2.Session:
    """Show one session now."""
    tally, now = live.conversation.tally, _now()
    return admin_pb2.Session(
        session_id=live.id,
        gateway=gateway,
        pool=live.pool,
        tenant=live.principal.tenant,
        caller=live.principal.caller,
        state=types_pb2.SessionState.Value(f"SESSION_STATE_{live.state.name}"),
        upstream_session_id=live.upstream_session_id,
        age_ms=_ms(now - live.started_at),
        idle_ms=_ms(now - live.stirred_at),
        correlation_id=live.request.correlation_id,
        metadata=live.request.metadata,
        usage=usage(tally.usage),
        audio_in_bytes=tally.audio_in_bytes,
        audio_out_bytes=tally.audio_out_bytes,
    )


def _now() -> float:
    return asyncio.get_running_loop().time()


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
