"""Keys of different sessions never meet, and one session's keys never part."""

import itertools
from dataclasses import astuple

from hypothesis import given
from hypothesis import strategies as st

from gateway.runtime.ports import SessionKey
from gateway.store.keys import account_keys, entry_id, lease_key, parse_entry_id, session_keys

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


@given(NAMES, NAMES, NAMES)
def test_accounts_reservations_and_sessions_never_share_a_hash_tag(one: str, other: str, session: str) -> None:
    mine, theirs = account_keys(one), account_keys(other)
    assert (hash_tag(mine.counts) == hash_tag(theirs.counts)) == (one == other)
    assert {hash_tag(key) for key in astuple(mine)} == {hash_tag(mine.tat)}
    assert len(set(astuple(mine))) == len(astuple(mine))
    tags = {hash_tag(mine.counts), hash_tag(lease_key(one)), hash_tag(session_keys(SessionKey(one, session)).meta)}
    assert len(tags) == 3


def test_entry_ids_come_back() -> None:
    for seq, epoch in itertools.product((1, 9, 2**53 - 1), repeat=2):
        assert parse_entry_id(entry_id(seq, epoch).encode()) == (seq, epoch)
