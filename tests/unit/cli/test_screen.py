"""A page of `top`, drawn from fixed answers."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console
from trunkline.v1.admin_pb2 import Pool, Session, WatchResponse
from trunkline.v1.types_pb2 import SESSION_STATE_ACTIVE, SESSION_STATE_DETACHED, Usage

from gateway.cli.failure import RefusedError
from gateway.cli.screen import Page, Sorting
from gateway.cli.watching import Watched

EVIL = "\x1b[2J\x1b]0;owned\x07\r\n\u202e"


def pool(name: str = "default", **fields: object) -> Pool:
    return Pool(name=name, line_class="openai gpt-realtime-2.1 main", floor=2, ceiling=16, **fields)  # type: ignore[arg-type]


def session(number: int, **fields: object) -> Session:
    shown = {
        "session_id": f"sess_{number:020}",
        "pool": "default",
        "tenant": "acme",
        "caller": "billing-bot",
        "state": SESSION_STATE_ACTIVE,
        "age_ms": (100 - number) * 61_000,
        "idle_ms": number * 100,
        "correlation_id": f"call-{number:04}",
        "usage": Usage(input_tokens=number, output_tokens=1000),
        "audio_in_bytes": 48_000 * number,
        "audio_out_bytes": 1_234_567,
    }
    return Session(**{**shown, **fields})  # type: ignore[arg-type]


def watched(address: str, *sessions: Session, pools: tuple[Pool, ...] = ()) -> Watched:
    gateway = Watched(address, began_at=0, version="0.1.0")
    leased = pool(leased=len(sessions), warm=2)
    gateway.take(WatchResponse(pools=pools or (leased,), sessions=sessions), 0)
    return gateway


def drawn(
    *gateways: Watched, width: int = 120, height: int = 40, now: float = 0, sorting: Sorting | None = None
) -> list[str]:
    page = Page(gateways, sorting or Sorting(), now, "12:03:04", patience_seconds=3, keys=True)
    console = Console(file=io.StringIO(), width=width, height=height)
    with console.capture() as captured:
        console.print(page.drawn(width, height))
    text = captured.get()
    assert "\x1b" not in text
    return text.splitlines()


def starting(lines: list[str], *words: str) -> list[str]:
    return [line for line in lines if line.split()[: len(words)] == list(words)]


def test_one_gateway_with_its_pool_and_sessions() -> None:
    lines = drawn(watched("127.0.0.1:50051", session(1), session(2)))
    assert lines[0].split()[:6] == ["trunkline", "12:03:04", "1", "gateway", "2", "sessions"]
    assert lines[3].split() == ["127.0.0.1:50051", "0.1.0", "1", "2", "2/16", "answers"]
    assert lines[6].split() == ["default", "2", "16", "2", "0", "2", "0", "-", "-", "-", "serving"]
    (line,) = starting(lines, "sess_00000000000000000001")
    expected = "default acme/billing-bot active 1h40 0.1s 48k 1.2M 1.0k call-0001"
    assert line.split()[1:] == expected.split()


def test_several_gateways_are_numbered() -> None:
    lines = drawn(watched("10.0.0.1:50051", session(1)), watched("10.0.0.2:50051", session(2)))
    assert lines[3].split()[:2] == ["1", "10.0.0.1:50051"]
    assert lines[4].split()[:2] == ["2", "10.0.0.2:50051"]
    assert len(starting(lines, "1", "default")) == len(starting(lines, "2", "default")) == 1
    assert starting(lines, "1", "sess_00000000000000000001")
    assert starting(lines, "2", "sess_00000000000000000002")


@pytest.mark.parametrize("height", [8, 10, 12, 20, 24, 40, 60])
@pytest.mark.parametrize("width", [40, 80, 100, 120, 200])
def test_a_page_is_never_larger_than_the_terminal(width: int, height: int) -> None:
    many = [
        watched(f"10.0.0.{n}:50051", *(session(n * 20 + k) for k in range(20)), pools=tuple(map(pool, "abc")))
        for n in range(5)
    ]
    many[1].failure = RefusedError("CONNECTION_LOST", "word " * 50)
    lines = drawn(*many, width=width, height=height)
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width
    assert lines[-1].startswith("… ")


def test_what_is_cut_is_counted() -> None:
    lines = drawn(watched("a:1", *map(session, range(100))), height=24)
    assert len(lines) == 24
    shown = [line for line in lines if line.startswith("sess_")]
    assert lines[-1] == f"… {100 - len(shown)} more".ljust(len(lines[-1]))
    assert len(shown) == 14


def test_twenty_sessions_fit_on_a_terminal_of_usual_height() -> None:
    lines = drawn(watched("a:1", *map(session, range(20))), height=32)
    assert sum(line.startswith("sess_") for line in lines) == 20


def test_eighty_columns_stay_readable() -> None:
    lines = drawn(watched("127.0.0.1:50051", session(1)), watched("127.0.0.1:50052", session(2)), width=80)
    titles = [line.split() for line in lines]
    assert titles[6][:8] == ["#", "pool", "floor", "ceiling", "warm", "dialling", "leased", "waiting"]
    assert {"session", "tenant/caller", "state", "age", "idle", "in", "out"} <= set(titles[10])
    (line,) = starting(lines, "1", "sess_0000000…")
    assert {"active", "1h40", "48k"} <= set(line.split())


@pytest.mark.parametrize("width", [80, 160])
def test_what_callers_have_named_steers_no_terminal(width: int) -> None:
    hostile = session(1, correlation_id=EVIL, caller=EVIL, tenant="[red]x[/red]", session_id=EVIL, metadata={"a": EVIL})
    gateway = watched("a:1", hostile, pools=(pool(name=EVIL, last_dial_failure=EVIL),))
    gateway.version = EVIL
    silent = watched("b:1")
    silent.failure = RefusedError("INTERNAL", EVIL)
    lines = drawn(gateway, silent, width=width)
    # Nothing of it has begun a line of its own, and nothing was taken for markup.
    assert len(lines) == 12
    assert all(line.isprintable() for line in lines)
    assert any("[red]x" in line for line in lines)


def test_what_is_stale_says_since_when_and_why() -> None:
    fresh, old = watched("a:1", session(1)), watched("b:1", session(2))
    fresh.seen_at = 9
    old.failure = RefusedError("CONNECTION_LOST", "it is gone")
    lines = drawn(fresh, old, now=10)
    assert "1 silent" in lines[0]
    assert lines[3].split()[-1] == "answers"
    assert lines[4].rstrip().endswith("no answer since 10 s: CONNECTION_LOST: it is gone")
    assert starting(lines, "2", "sess_00000000000000000002")
    # Also when it just says nothing more.
    old.failure = None
    assert drawn(fresh, old, now=10)[4].rstrip().endswith("no answer since 10 s")


def test_a_gateway_that_has_never_answered_is_shown() -> None:
    never = Watched("b:1", began_at=0, failure=RefusedError("UNAUTHENTICATED", "who are you"))
    lines = drawn(watched("a:1", session(1)), never)
    assert lines[4].split()[:9] == ["2", "b:1", "-", "0", "0", "0/0", "no", "answer:", "UNAUTHENTICATED:"]


def test_what_is_wrong_with_a_pool_is_said() -> None:
    pools = (
        pool("a", key_refused=True),
        pool("b", breaker_open=True),
        pool("c", is_draining=True),
        pool("d", waiting=3, oldest_wait_ms=1234, paused=True),
    )
    lines = drawn(watched("a:1", pools=pools))
    assert [" ".join(line.split()[10:]) for line in lines[6:10]] == [
        "serving, the key is refused",
        "serving, the breaker is open",
        "draining",
        "paused",
    ]
    assert lines[9].split()[6:8] == ["3", "1.2s"]


def test_hits_are_shown_since_the_start_and_now() -> None:
    gateway = Watched("a:1", began_at=0)
    for now, acquires in (
        (0, {"hit": 50}),
        (1, {"hit": 50, "wait": 1}),
        (20, {"hit": 50, "wait": 1}),
        (21, {"hit": 53, "wait": 1}),
    ):
        gateway.take(WatchResponse(pools=[pool(acquires=acquires)]), now)
    assert drawn(gateway, now=21)[6].split()[8:10] == ["75%", "100%"]


def test_keys_choose_the_order_and_the_head_tells_it() -> None:
    sorting = Sorting()
    sessions = [session(1, idle_ms=1), session(2, idle_ms=9), session(3, idle_ms=5)]
    pools = (pool("a"), pool("b", waiting=2, leased=1), pool("c", leased=7))

    def order() -> tuple[list[str], list[str]]:
        lines = drawn(watched("a:1", *sessions, pools=pools), sorting=sorting)
        assert f"p: by {sorting.pools}  s: by {sorting.sessions}" in lines[0]
        return [line[0] for line in lines[6:9]], [line[24] for line in lines if line.startswith("sess_")]

    assert order() == (["a", "b", "c"], ["1", "2", "3"])
    sorting.press("s")
    assert order() == (["a", "b", "c"], ["2", "3", "1"])
    sorting.press("p")
    assert order()[0] == ["b", "a", "c"]
    sorting.press("p")
    assert order()[0] == ["c", "b", "a"]
    for key in "psssx\x1b":
        sorting.press(key)
    assert (sorting.pools, sorting.sessions) == ("name", "age")


def test_a_session_that_is_not_active_is_marked() -> None:
    gateway = watched("a:1", session(1, state=SESSION_STATE_DETACHED))
    page = Page([gateway], Sorting(), 0, "12:03:04", patience_seconds=3)
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system="standard")
    with console.capture() as captured:
        console.print(page.drawn(120, 40))
    (line,) = [line for line in captured.get().splitlines() if "detached" in line]
    assert "\x1b[33m" in line


def test_neither_many_pools_nor_many_sessions_hide_the_others() -> None:
    pools = tuple(pool(f"pool-{number:02}") for number in range(30))
    lines = drawn(watched("a:1", *map(session, range(100)), pools=pools), height=40)
    assert sum(line.startswith("pool-") for line in lines) >= 12
    assert sum(line.startswith("sess_") for line in lines) >= 12
    # What pools do not need, sessions get.
    lines = drawn(watched("a:1", *map(session, range(100))), height=40)
    assert sum(line.startswith("sess_") for line in lines) == 30
