"""Keys of different sessions never meet, and one session's keys never part."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.runtime.ports import SessionKey
from gateway.store.keys import entry_id, parse_entry_id, session_keys

NAMES = st.text(st.sampled_from("ab{}:/%é\x00 "), max_size=4)


def hash_tag(key: str) -> str:
    """Redis' own rule: what stands between the first `{` and the next `}`."""
    return key.split("{", 1)[1].split("}", 1)[0]


def test_the_layout_is_the_documented_one() -> None:
    keys = session_keys(SessionKey("acme", "s_1"))
    assert keys.meta == "trunkline:{acme/s_1}:m"
    assert keys.log == "trunkline:{acme/s_1}:x"


@given(NAMES, NAMES, NAMES, NAMES)
def test_different_sessions_never_share_a_key_or_a_hash_tag(
    tenant: str, session: str, other_tenant: str, other_session: str
) -> None:
    one, other = SessionKey(tenant, session), SessionKey(other_tenant, other_session)
    mine, theirs = session_keys(one), session_keys(other)
    assert (mine == theirs) == (one == other)
    assert (hash_tag(mine.meta) == hash_tag(theirs.meta)) == (one == other)


@given(NAMES, NAMES)
def test_one_session_has_one_hash_tag(tenant: str, session: str) -> None:
    keys = session_keys(SessionKey(tenant, session))
    assert hash_tag(keys.meta) == hash_tag(keys.log) != ""
    assert keys.meta != keys.log


def test_no_name_can_move_a_boundary() -> None:
    for name in ("}", "{", ":", "/", "a}:m", "a/b"):
        keys = session_keys(SessionKey(name, name))
        assert keys.meta.count("{") == keys.meta.count("}") == keys.meta.count("/") == 1


def test_entry_ids_come_back() -> None:
    for seq, epoch in itertools.product((1, 9, 2**53 - 1), repeat=2):
        assert parse_entry_id(entry_id(seq, epoch).encode()) == (seq, epoch)
