"""A record opens in its place and nowhere else, and not after any change."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import StoreError
from gateway.runtime.ports import LogEntry, SessionKey
from gateway.store.record import CIPHERS_MAX, NONCE_BYTES, RecordSealer, RecordUnreadableError
from gateway.store.sealing_keys import DataKey, KeyUnknownError, SealingKeys

KEY = SessionKey("acme", "s1")
ENTRY = LogEntry(seq=7, payload=b"the caller said something", cseq=3)
EPOCH = 2


def key_of(fill: int, key_id: str = "k1") -> DataKey:
    return DataKey(key_id, bytes([fill]) * 32)


@pytest.fixture
def sealer() -> RecordSealer:
    return RecordSealer(SealingKeys([key_of(1)]))


@given(
    st.binary(max_size=200),
    st.integers(0, 2**63),
    st.integers(1, 2**53),
    st.integers(1, 2**53),
    st.text(max_size=8),
)
def test_what_was_sealed_comes_back(payload: bytes, cseq: int, seq: int, epoch: int, name: str) -> None:
    sealer = RecordSealer(SealingKeys([key_of(1)]))
    key, entry = SessionKey(name, name), LogEntry(seq, payload, cseq)
    assert sealer.open(key, epoch, seq, sealer.seal(key, epoch, entry)) == entry


def test_every_single_flipped_bit_is_noticed(sealer: RecordSealer) -> None:
    envelope = sealer.seal(KEY, EPOCH, ENTRY)
    for at, bit in itertools.product(range(len(envelope)), range(8)):
        changed = bytearray(envelope)
        changed[at] ^= 1 << bit
        with pytest.raises(StoreError):
            sealer.open(KEY, EPOCH, ENTRY.seq, bytes(changed))


def test_every_cut_is_noticed(sealer: RecordSealer) -> None:
    envelope = sealer.seal(KEY, EPOCH, ENTRY)
    for length in range(len(envelope)):
        with pytest.raises(RecordUnreadableError):
            sealer.open(KEY, EPOCH, ENTRY.seq, envelope[:length])


@pytest.mark.parametrize(
    ("key", "epoch", "seq"),
    [
        (SessionKey("acme", "s2"), EPOCH, 7),
        (SessionKey("other", "s1"), EPOCH, 7),
        (SessionKey("acmes", "1"), EPOCH, 7),
        (SessionKey("", "acmes1"), EPOCH, 7),
        (KEY, EPOCH + 1, 7),
        (KEY, EPOCH, 8),
        (KEY, 7, EPOCH),
    ],
)
def test_a_record_opens_nowhere_but_in_its_place(sealer: RecordSealer, key: SessionKey, epoch: int, seq: int) -> None:
    with pytest.raises(RecordUnreadableError):
        sealer.open(key, epoch, seq, sealer.seal(KEY, EPOCH, ENTRY))


def test_swapped_records_are_noticed(sealer: RecordSealer) -> None:
    entries = [dataclasses.replace(ENTRY, seq=seq) for seq in range(1, 40)]
    envelopes = {entry.seq: sealer.seal(KEY, EPOCH, entry) for entry in entries}
    for here, there in itertools.permutations(envelopes, 2):
        with pytest.raises(RecordUnreadableError):
            sealer.open(KEY, EPOCH, here, envelopes[there])


def test_no_nonce_comes_twice(sealer: RecordSealer) -> None:
    start = 2 + len("k1")
    nonces = {sealer.seal(KEY, EPOCH, ENTRY)[start : start + NONCE_BYTES] for _ in range(20_000)}
    assert len(nonces) == 20_000


def test_the_envelope_shows_nothing_of_the_payload(sealer: RecordSealer) -> None:
    assert b"caller" not in sealer.seal(KEY, EPOCH, ENTRY)


def test_a_new_key_seals_and_the_old_one_still_opens() -> None:
    old = RecordSealer(SealingKeys([key_of(1, "old")])).seal(KEY, EPOCH, ENTRY)
    both = RecordSealer(SealingKeys([key_of(2, "new"), key_of(1, "old")]))
    assert both.open(KEY, EPOCH, 7, old) == ENTRY
    with pytest.raises(KeyUnknownError):
        RecordSealer(SealingKeys([key_of(1, "old")])).open(KEY, EPOCH, 7, both.seal(KEY, EPOCH, ENTRY))


def test_another_key_of_the_same_id_opens_nothing(sealer: RecordSealer) -> None:
    envelope = RecordSealer(SealingKeys([key_of(9)])).seal(KEY, EPOCH, ENTRY)
    with pytest.raises(RecordUnreadableError):
        sealer.open(KEY, EPOCH, 7, envelope)


def test_after_throwing_away_nothing_opens_or_seals(sealer: RecordSealer) -> None:
    envelope = sealer.seal(KEY, EPOCH, ENTRY)
    sealer.throw_away()
    with pytest.raises(KeyUnknownError):
        sealer.open(KEY, EPOCH, 7, envelope)
    with pytest.raises(KeyUnknownError):
        sealer.seal(KEY, EPOCH, ENTRY)


def test_errors_repeat_nothing_of_the_record(sealer: RecordSealer) -> None:
    with pytest.raises(RecordUnreadableError) as raised:
        sealer.open(KEY, EPOCH, 8, sealer.seal(KEY, EPOCH, ENTRY))
    assert "caller" not in f"{raised.value!r}{raised.value}"
    assert raised.value.__cause__ is None


def test_derived_ciphers_are_bounded(sealer: RecordSealer) -> None:
    for number in range(CIPHERS_MAX + 50):
        sealer.seal(SessionKey("acme", str(number)), EPOCH, ENTRY)
    assert sealer._cipher.cache_info().currsize == CIPHERS_MAX
