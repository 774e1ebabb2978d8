"""How many lines a pool opens, and when: what is owed first, then the floor, within places, width and back-off."""

from gateway.core.books import Books
from gateway.core.connection import Connection
from gateway.core.demand import RARE_PER_LEAD
from gateway.core.effects import Effect
from gateway.core.share import NEVER, Share


def count_arrival(books: Books, share: Share, now: float) -> None:
    """Let a caller count towards the floor of its template, or of the bare share while its template is rare."""
    share.demand.arrived(now)
    if books.bare is not None and _is_rare(share, now):
        books.bare.demand.arrived(now)


def floor(books: Books, share: Share, now: float) -> int:
    """How many lines a share wants ready, or on their way, beyond those that somebody waits for."""
    if books.bare is not None and share is not books.bare and _is_rare(share, now):
        return 0
    return share.floor(now)


def stock(books: Books, share: Share, now: float) -> int:
    """How many lines a share wants ready, or on their way, while those of another version wait for successors."""
    return floor(books, share, now) + len(share.outdated())


def dial_what_is_owed(books: Books, now: float) -> list[Effect]:
    """Open lines for those who wait, then for the floors; give up dials that hang meanwhile."""
    effects: list[Effect] = []
    for share in books.all:
        effects += _give_up_hanging(books, share, now)
    for share in books.shares.values():
        effects += _dial_alone(books, share, now)
    # Those whom somebody waits for come before any floor.
    for share in books.all:
        effects += _dial(books, share, share.owed(), now, waited_for=True)
    for share in books.all:
        effects += _dial(books, share, share.owed() + stock(books, share, now), now, waited_for=False)
    return effects


def _dial(books: Books, share: Share, wanted: int, now: float, *, waited_for: bool) -> list[Effect]:
    if wanted <= 0:
        return []
    effects: list[Effect] = []
    for _ in range(min(wanted, _room(books, share, now, waited_for=waited_for))):
        if now < opens_at(books, share, waited_for=waited_for):
            break
        effects.append(books.dial(share, now, waited_for=waited_for))
    return effects


def _dial_alone(books: Books, share: Share, now: float) -> list[Effect]:
    waiters = [waiter for waiter in share.alone.values() if waiter.id not in share.alone_lines]
    return [
        books.dial(share, now, waited_for=True, alone=waiter)
        for waiter in waiters
        if _room(books, share, now, waited_for=True) > 0 and now >= opens_at(books, share, waited_for=True)
    ]


def _room(books: Books, share: Share, now: float, *, waited_for: bool) -> int:
    """How many dials may begin: places under the ceiling and dials at once."""
    if share.draining and not share.recovering:
        return 0
    limits = share.limits
    places = share.ceiling - share.lines
    if share.demand.options.enabled:  # those who may use bare lines share their ceilings with them
        sharing = [each for each in books.all if each.demand.options.enabled]
        ceiling = sum(each.ceiling for each in sharing if each is not books.bare)
        places = min(places, ceiling - sum(each.lines for each in sharing))
    reserve_opens_at = share.reserve_opens_at()
    if not waited_for or reserve_opens_at is None or reserve_opens_at > now:
        places -= limits.reserve
    return min(places, _width(share) - len(share.connecting))


def _width(share: Share) -> int:
    return min(share.limits.dials_max, share.backoff.width)


def opens_at(books: Books, share: Share, *, waited_for: bool) -> float:
    """From when on a dial may begin."""
    backoff, breaker = share.backoff, books.breaker
    soonest = max(backoff.not_before, breaker.allows_at(waited_for=waited_for))
    return soonest if waited_for else max(soonest, backoff.refill_not_before)


def _give_up_hanging(books: Books, share: Share, now: float) -> list[Effect]:
    """End dials that hang while what they were to bring is needed. What follows in this settling tries anew.

    All that a later dial has overtaken. Where none has, the provider may be slow for all: then the oldest alone.
    """
    hanging = [line for line, at in _hang_times(share) if at <= now]
    if not hanging or not (share.owed() + len(hanging) + stock(books, share, now) > 0 or share.alone):
        return []
    share.given_up, share.gave_up_at = share.given_up + 1, now
    overtaken = [line for line in hanging if (line.dialled_at or now) < share.overtakes]
    return [books.retire(line, "hanging") for line in overtaken or hanging[:1]]


def _hang_times(share: Share) -> list[tuple[Connection, float]]:
    """When each dial that has begun is taken to hang; where one was given up just now, the next one's turn is later.

    The patience is the same for all, and worked out once: there may be very many.
    """
    patience, overtakes = share.patience_seconds, share.overtakes
    turn = share.gave_up_at + patience
    return [
        (line, begun_at + patience if begun_at < overtakes else max(begun_at + patience, turn))
        for line in share.connecting.values()
        if (begun_at := line.dialled_at) is not None
    ]


def dial_times(books: Books, share: Share, now: float) -> list[float]:
    """When one of the conditions of the steps above may change by itself."""
    owed, wanted = share.owed(), share.owed() + stock(books, share, now)
    times = [min((at for _, at in _hang_times(share) if at > books.settled_at), default=NEVER)]
    if wanted > 0 or share.alone:
        times.append(opens_at(books, share, waited_for=False))
    if owed > 0 or share.alone:
        times.append(opens_at(books, share, waited_for=True))
        times.append(share.reserve_opens_at() or NEVER)
    return [time for time in times if time != NEVER]


def _is_rare(share: Share, now: float) -> bool:
    options = share.demand.options
    return options.enabled and not share.limits.floor and share.demand.per_lead(now) < RARE_PER_LEAD
