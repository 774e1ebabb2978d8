"""One page of `trunkline top`: gateways, their pools, their sessions. Pure: the time and the size come in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text
from trunkline.v1.admin_pb2 import Pool, Session

from gateway.cli.admin import pool_state, session_state, session_tokens
from gateway.cli.tables import WIDE, Column, fitted
from gateway.cli.watching import Watched
from gateway.cli.words import amount, duration, ratio

# What a page has besides rows: its head, and the titles of three tables.
_FIXED_LINES: Final = 4
# From this height on there is an empty line above each table.
_TALL: Final = 20
_TABLES: Final = 3
# Wider and higher than anything: a pipe.
ENDLESS: Final = 10_000


@dataclass(frozen=True, slots=True)
class _GatewayRow:
    number: int
    watched: Watched
    now: float
    is_silent: bool


@dataclass(frozen=True, slots=True)
class _PoolRow:
    gateway: _GatewayRow
    pool: Pool


@dataclass(frozen=True, slots=True)
class _SessionRow:
    gateway: _GatewayRow
    session: Session


def _pools(watched: Watched) -> Sequence[Pool]:
    return () if watched.seen is None else watched.seen.pools


def _sessions(watched: Watched) -> Sequence[Session]:
    return () if watched.seen is None else watched.seen.sessions


def _leased(watched: Watched) -> str:
    pools = _pools(watched)
    return f"{sum(pool.leased for pool in pools)}/{sum(pool.ceiling for pool in pools)}"


def _oldest(pool: Pool) -> str:
    return duration(pool.oldest_wait_ms) if pool.waiting else "-"


def _gateway_state(row: _GatewayRow) -> str:
    if not row.is_silent:
        return "answers"
    seconds = int(row.watched.silent_seconds(row.now))
    since = f"no answer since {seconds} s" if seconds else "no answer"
    return f"{since}: {row.watched.failure}" if row.watched.failure else since


_POOL_ORDERS: Final[Mapping[str, Callable[[Pool], object]]] = {
    "name": lambda pool: pool.name,
    "waiting": lambda pool: -pool.waiting,
    "leased": lambda pool: -pool.leased,
}
_SESSION_ORDERS: Final[Mapping[str, Callable[[Session], int]]] = {
    "age": lambda session: -session.age_ms,
    "idle": lambda session: -session.idle_ms,
    "tokens": lambda session: -session_tokens(session),
    "audio": lambda session: -session.audio_in_bytes - session.audio_out_bytes,
}
_ID_LEAST: Final = 13

_GATEWAYS: Final[tuple[Column[_GatewayRow], ...]] = (
    Column("#", lambda row: str(row.number), 9, is_number=True),
    Column("gateway", lambda row: row.watched.address, 9, least=15),
    Column("version", lambda row: row.watched.version or "-", 1),
    Column("pools", lambda row: str(len(_pools(row.watched))), 2, is_number=True),
    Column("sessions", lambda row: str(len(_sessions(row.watched))), 3, is_number=True),
    Column("leased/ceiling", lambda row: _leased(row.watched), 4, is_number=True),
    Column("state", _gateway_state, 8, least=18),
)
_POOLS: Final[tuple[Column[_PoolRow], ...]] = (
    Column("#", lambda row: str(row.gateway.number), 7, is_number=True),
    Column("pool", lambda row: row.pool.name, 9, least=8),
    Column("floor", lambda row: str(row.pool.floor), 3, is_number=True),
    Column("ceiling", lambda row: str(row.pool.ceiling), 4, is_number=True),
    Column("warm", lambda row: str(row.pool.warm), 8, is_number=True),
    Column("dialling", lambda row: str(row.pool.dialling), 5, is_number=True),
    Column("leased", lambda row: str(row.pool.leased), 8, is_number=True),
    Column("waiting", lambda row: str(row.pool.waiting), 7, is_number=True),
    Column("oldest", lambda row: _oldest(row.pool), 2, is_number=True),
    Column("hits", lambda row: ratio(row.gateway.watched.ratio(row.pool).since_start), 1, is_number=True),
    Column("now", lambda row: ratio(row.gateway.watched.ratio(row.pool).lately), 6, is_number=True),
    Column("state", lambda row: pool_state(row.pool), 9, least=8),
)
_SESSIONS: Final[tuple[Column[_SessionRow], ...]] = (
    Column("#", lambda row: str(row.gateway.number), 5, is_number=True),
    Column("session", lambda row: row.session.session_id, 9, least=_ID_LEAST),
    Column("pool", lambda row: row.session.pool, 3, least=7),
    Column("tenant/caller", lambda row: f"{row.session.tenant}/{row.session.caller}", 7, least=13),
    Column("state", lambda row: session_state(row.session), 8, least=6),
    Column("age", lambda row: duration(row.session.age_ms), 8, is_number=True),
    Column("idle", lambda row: duration(row.session.idle_ms), 6, is_number=True),
    Column("in", lambda row: amount(row.session.audio_in_bytes), 4, is_number=True),
    Column("out", lambda row: amount(row.session.audio_out_bytes), 4, is_number=True),
    Column("tokens", lambda row: amount(session_tokens(row.session)), 2, is_number=True),
    Column("correlation", lambda row: row.session.correlation_id, 5, least=8),
)


class Sorting:
    """By what pools and sessions are sorted; `p` and `s` choose the next."""

    def __init__(self) -> None:
        """Begin with names and ages."""
        self.pools, *self._pools = _POOL_ORDERS
        self.sessions, *self._sessions = _SESSION_ORDERS

    def press(self, key: str) -> None:
        """Take a key; others do nothing."""
        if key == "p":
            self._pools.append(self.pools)
            self.pools = self._pools.pop(0)
        elif key == "s":
            self._sessions.append(self.sessions)
            self.sessions = self._sessions.pop(0)


@dataclass(frozen=True, slots=True)
class Page:
    """What one page is made of. `patience_seconds` is how long a gateway may say nothing."""

    gateways: Sequence[Watched]
    sorting: Sorting
    now: float
    clock: str
    patience_seconds: float
    keys: bool = False

    def drawn(self, width: int = ENDLESS, height: int = ENDLESS) -> RenderableType:
        """Return the page, cut to a terminal's size."""
        rows = [
            _GatewayRow(number, each, self.now, each.is_silent(self.now, self.patience_seconds))
            for number, each in enumerate(self.gateways, start=1)
        ]
        pools = [_PoolRow(row, pool) for row in rows for pool in _pools(row.watched)]
        pools.sort(key=lambda row: _POOL_ORDERS[self.sorting.pools](row.pool))  # type: ignore[arg-type,return-value]
        sessions = [_SessionRow(row, session) for row in rows for session in _sessions(row.watched)]
        sessions.sort(key=lambda row: _SESSION_ORDERS[self.sorting.sessions](row.session))
        # Whose row it is need not be said of the only gateway.
        first = 0 if len(rows) > 1 else 1
        free = height - _FIXED_LINES - (_TABLES if height >= _TALL else 0)
        rooms = _rooms(free, len(rows), len(pools), len(sessions))
        tables = (
            fitted(_GATEWAYS[first:], rows, width, _gateway_style, rooms[0]),
            fitted(_POOLS[first:], pools, width, _pool_style, rooms[1]),
            fitted(_SESSIONS[first:], sessions, width, _session_style, rooms[2]),
        )
        lines: list[RenderableType] = [self._head(rows, width)]
        for table in tables:
            lines += [Text(), table] if height >= _TALL else [table]
        return Group(*lines)

    def _head(self, rows: Sequence[_GatewayRow], width: int) -> Text:
        silent = sum(row.is_silent for row in rows)
        head = Text.assemble(
            (f"trunkline {self.clock}" if width >= WIDE else self.clock, "bold"),
            f"  {_counted(len(rows), 'gateway')}",
            (f" ({silent} silent)" if silent else "", "red"),
            f"  {_counted(sum(len(_sessions(row.watched)) for row in rows), 'session')}",
        )
        if self.keys:
            head.append(f"  p: by {self.sorting.pools}  s: by {self.sorting.sessions}  q: leave", "dim")
        head.truncate(width)
        return head


def _rooms(free: int, gateways: int, pools: int, sessions: int) -> tuple[int, int, int]:
    """Divide the lines: sessions may have half at least, then pools, then gateways; what one leaves the others get."""
    for_sessions = min(sessions, max(1, free // 2))
    for_pools = min(pools, max(1, (free - for_sessions) // 2))
    for_gateways = min(gateways, max(1, free - for_sessions - for_pools))
    for_pools = min(pools, max(1, free - for_sessions - for_gateways))
    return for_gateways, for_pools, max(1, free - for_gateways - for_pools)


def _gateway_style(row: _GatewayRow) -> str:
    return "red" if row.is_silent else ""


def _pool_style(row: _PoolRow) -> str:
    if row.gateway.is_silent:
        return "dim"
    if row.pool.key_refused or row.pool.breaker_open:
        return "red"
    return "yellow" if row.pool.paused or row.pool.is_draining or row.pool.waiting else ""


def _session_style(row: _SessionRow) -> str:
    if row.gateway.is_silent:
        return "dim"
    return "" if session_state(row.session) == "active" else "yellow"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
