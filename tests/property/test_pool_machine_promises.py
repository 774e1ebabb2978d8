"""The promises of the pool, each a question to the pool and to the machine's own books."""

from gateway.core.breaker import Breaker
from gateway.core.share import BARE
from tests.property.test_pool_machine_books import DRAINING, LEASED, READY, ROUNDING, Books
from tests.property.test_pool_machine_dialling import CONNECTING, FOREVER

# Between two moments of the machine.
A_WHILE_SECONDS = 0.0625


def keep_every_promise(all_books: list[Books], breaker: Breaker) -> None:
    """See that each pool keeps each promise at this moment."""
    for books in all_books:
        their_books_are_ours(books)
        the_breaker_is_what_its_rule_says(books, breaker)
        each_request_is_answered_exactly_once(books)
        nobody_waits_beside_a_ready_line_that_he_may_have(books)
        nobody_waits_past_the_deadline_or_without_hope(books)
        no_line_stands_ready_past_its_age_or_outdated_or_drained_or_for_one_waiter(books)
        lines_stay_below_the_ceilings(books)
        no_lease_leaks(books)
        the_floor_is_within_its_bounds(books)
        what_is_owed_or_belongs_to_the_floor_is_dialled_as_soon_as_it_may_be(books)
        no_dial_hangs_while_it_is_needed(books)
        the_next_deadline_is_never_in_the_past_and_misses_nothing(books)


def their_books_are_ours(books: Books) -> None:
    for pool, known in books.pools.items():
        stats = books.core.stats(pool, books.now)
        assert stats.dialling == len(books.of(CONNECTING, pool=pool))
        assert stats.ready == len(books.of(READY, pool=pool))
        assert stats.leased == len(books.of(LEASED, pool=pool))
        assert stats.draining == len(books.of(DRAINING, pool=pool))
        assert stats.reserved == books.reserved(pool)
        assert (stats.paused, stats.draining_pool) == (known.paused, known.draining)
        assert stats.last_failure is known.last_failure
        waiting = books.waiting(pool)
        assert stats.waiting == len(waiting)
        if pool != BARE:
            assert list(books.core.positions(pool)) == waiting
            assert list(books.core.reservations(pool)) == [
                each for each, (of, _) in books.reservations.items() if of == pool
            ]
    assert len(books.leases) == len(books.of(LEASED))


def the_breaker_is_what_its_rule_says(books: Books, breaker: Breaker) -> None:
    assert breaker.is_open is books.breaker.is_open
    assert breaker.key_refused is books.breaker.key_refused
    for waited_for in (True, False):
        allowed = breaker.allows_at(waited_for=waited_for)
        assert allowed == books.breaker.allows_at(waited_for=waited_for)


def each_request_is_answered_exactly_once(books: Books) -> None:
    for waiter_id, answers in books.answers.items():
        open_still = waiter_id in books.waits or waiter_id in books.cancelled
        assert answers == (0 if open_still else 1)


def nobody_waits_beside_a_ready_line_that_he_may_have(books: Books) -> None:
    for pool in books.pools:
        head = books.head(pool)
        assert head is None or books.may_have(head) is None
        may_dial = len(books.of(CONNECTING, pool=pool)) < books.width(pool)
        may_dial = may_dial and books.opens_at(pool, waited_for=True) <= books.now
        if may_dial and books.owed_alone(pool) > books.room_for_the_alone(pool):
            assert len(books.of(READY, pool=pool)) <= books.due(pool), "idle lines stand in his way"


def nobody_waits_past_the_deadline_or_without_hope(books: Books) -> None:
    for wait in books.waits.values():
        assert wait.deadline > books.now
        assert not books.pools[wait.pool].draining
        if books.due(wait.pool) > books.supply(wait.pool) or books.owed_alone(wait.pool):
            assert not books.is_hopeless(wait)


def no_line_stands_ready_past_its_age_or_outdated_or_drained_or_for_one_waiter(books: Books) -> None:
    for line in (books.lines[each] for each in books.of(READY)):
        assert books.now - line.ready_at < line.age_max + ROUNDING
        assert line.version == books.pools[line.pool].version or books.now < books.pools[line.pool].outdated_until
        assert not books.pools[line.pool].draining
        assert line.alone_for is None


def lines_stay_below_the_ceilings(books: Books) -> None:
    for pool, known in books.pools.items():
        assert books.open_in(pool) <= known.limits.ceiling
    assert len(books.of(CONNECTING, READY, LEASED, DRAINING)) <= books.class_ceiling


def no_lease_leaks(books: Books) -> None:
    for line_id, renewed_at in books.leases.values():
        leak_after = books.pools[books.lines[line_id].pool].limits.leak_after_seconds
        longest = max(known.limits.leak_after_seconds for known in books.pools.values())
        assert books.now < renewed_at + leak_after + max(leak_after, longest) / 4 + ROUNDING


def the_floor_is_within_its_bounds(books: Books) -> None:
    for pool, known in books.pools.items():
        configured = 0 if known.draining else min(known.limits.floor, known.limits.ceiling)
        if known.limits.demand.enabled:
            assert configured <= books.floor(pool) <= known.limits.ceiling
        else:
            assert books.floor(pool) == configured


def what_is_owed_or_belongs_to_the_floor_is_dialled_as_soon_as_it_may_be(books: Books) -> None:
    for pool, known in books.pools.items():
        if known.draining or len(books.of(CONNECTING, pool=pool)) >= books.width(pool):
            continue
        owed = books.due(pool) > books.supply(pool) or books.owed_alone(pool) > 0
        if owed and books.places(pool, waited_for=True) > 0:
            assert books.now < books.opens_at(pool, waited_for=True)
        lacking = books.due(pool) + books.stock(pool) > books.supply(pool)
        if lacking and books.places(pool, waited_for=False) > 0:
            assert books.now < books.opens_at(pool, waited_for=False)


def no_dial_hangs_while_it_is_needed(books: Books) -> None:
    for pool, known in books.pools.items():
        hanging = books.hanging(pool)
        assert known.draining or not hanging or not books.needs_what_hangs(pool, len(hanging))


def the_next_deadline_is_never_in_the_past_and_misses_nothing(books: Books) -> None:
    due = books.core.next_deadline(books.now)
    assert due is None or due > books.now
    if due is not None and not books.follows_demand:  # a floor that has sunk meanwhile is not due any more
        assert books.core.next_deadline(due + A_WHILE_SECONDS) == due + A_WHILE_SECONDS, "what came due is due now"
    expected = min(books.expected(), default=FOREVER)
    if expected < FOREVER:
        assert due is not None
        assert due <= expected + ROUNDING
