"""Keys load from files, and never show themselves."""

import base64
import copy
import pickle
import re
from pathlib import Path

import pytest

from gateway.core.errors import StoreError
from gateway.store.sealing_keys import DataKey, KeyUnknownError, SealingKeys, read_key

# No byte of it is printable, so no text form can contain it by chance.
MATERIAL = bytes(range(128, 160))


@pytest.mark.parametrize(
    "content",
    [
        MATERIAL,
        MATERIAL.hex().encode(),
        MATERIAL.hex().upper().encode() + b"\n",
        base64.b64encode(MATERIAL) + b"\n",
        base64.urlsafe_b64encode(MATERIAL),
    ],
)
def test_a_key_file_may_be_raw_hex_or_base64(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    assert read_key("k1", path).derive(b"x") == DataKey("k1", MATERIAL).derive(b"x")


@pytest.mark.parametrize(
    "content",
    [b"", b"hunter2", MATERIAL[:31], MATERIAL + b"\n", b"zz" * 32, b"ab" * 33, b"A" * 10_000],
)
def test_a_bad_key_file_is_named_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=re.escape(str(path))) as raised:
        read_key("k1", path)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__suppress_context__


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        read_key("k1", tmp_path / "none")


def test_the_first_key_seals_and_all_are_found() -> None:
    first, second = DataKey("a", MATERIAL), DataKey("b", MATERIAL)
    keys = SealingKeys([first, second])
    assert keys.sealing is first
    assert keys.by_id("b") is second
    with pytest.raises(KeyUnknownError):
        keys.by_id("c")


@pytest.mark.parametrize("ids", [[], ["a", "a"]])
def test_no_key_or_two_of_one_id_are_refused(ids: list[str]) -> None:
    with pytest.raises(ValueError, match="sealing keys"):
        SealingKeys([DataKey(key_id, MATERIAL) for key_id in ids])


@pytest.mark.parametrize("key_id", ["", "a b", "é", "x" * 65, "a\n"])
def test_a_key_id_is_a_short_plain_word(key_id: str) -> None:
    with pytest.raises(ValueError, match="key id"):
        DataKey(key_id, MATERIAL)


@pytest.mark.parametrize("holder", [DataKey("k1", MATERIAL), SealingKeys([DataKey("k1", MATERIAL)])])
def test_keys_never_show_themselves(holder: object) -> None:
    shown = f"{holder!r}{holder}{[holder]}{holder!a}".encode("latin-1")
    assert not set(shown) & set(MATERIAL)
    assert MATERIAL.hex() not in repr(holder)
    assert not hasattr(holder, "__dict__")
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="copied or pickled"):
            attempt(holder)


def test_a_key_that_was_thrown_away_is_gone() -> None:
    key = DataKey("k1", MATERIAL)
    material = key._material
    SealingKeys([key]).throw_away()
    assert not material
    with pytest.raises(KeyUnknownError):
        key.derive(b"x")


def test_a_process_key_is_never_the_same() -> None:
    one, other = SealingKeys.of_this_process(), SealingKeys.of_this_process()
    assert one.sealing.derive(b"x") != other.sealing.derive(b"x")
