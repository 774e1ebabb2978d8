"""Bytes, samples and milliseconds of the three wire formats."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.audio import BY_NAME, PCM_24K, PCMA, PCMU, AudioFormat

FORMATS = (PCM_24K, PCMU, PCMA)


@pytest.mark.parametrize(("fmt", "per_second"), [(PCM_24K, 48_000), (PCMU, 8_000), (PCMA, 8_000)])
def test_a_second_has_so_many_bytes(fmt: AudioFormat, per_second: int) -> None:
    assert fmt.bytes_per_second == per_second
    assert fmt.size_bytes(1000) == per_second
    assert fmt.milliseconds(per_second) == 1000


def test_each_format_is_found_by_the_providers_name() -> None:
    assert BY_NAME == {"audio/pcm": PCM_24K, "audio/pcmu": PCMU, "audio/pcma": PCMA}


@given(fmt=st.sampled_from(FORMATS), milliseconds=st.integers(0, 10**7))
def test_milliseconds_come_back_from_bytes(fmt: AudioFormat, milliseconds: int) -> None:
    assert fmt.milliseconds(fmt.size_bytes(milliseconds)) == milliseconds


@given(milliseconds=st.integers(0, 10**7))
def test_a_sample_is_never_cut(milliseconds: int) -> None:
    assert PCM_24K.size_bytes(milliseconds) % PCM_24K.sample_bytes == 0


@given(fmt=st.sampled_from(FORMATS), size_bytes=st.integers(0, 10**9))
def test_milliseconds_round_down(fmt: AudioFormat, size_bytes: int) -> None:
    milliseconds = fmt.milliseconds(size_bytes)
    assert milliseconds * fmt.bytes_per_second <= size_bytes * 1000
    assert (milliseconds + 1) * fmt.bytes_per_second > size_bytes * 1000
