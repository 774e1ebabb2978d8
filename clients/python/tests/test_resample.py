"""Other sample rates, with soxr and without it."""

import builtins
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trunkline_client import audio
from trunkline_client.audio import (
    PCM_24K,
    PCMU,
    Resampler,
    read_wav,
    resample,
)

from .sounds import PCM, crossings, samples_of, stored, tone, wav


def test_the_same_rate_needs_nothing() -> None:
    resampler = Resampler(24_000, 24_000)
    assert resampler.feed(PCM) + resampler.flush() == PCM
    with pytest.raises(ValueError, match="above 0"):
        Resampler(0, 24_000)


def test_without_soxr_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def lacking(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "soxr":
            raise ModuleNotFoundError(name=name)
        return original(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", lacking)
    path = stored(tmp_path, wav(PCM, rate=16_000))
    with pytest.raises(ImportError, match=r"pip install 'trunkline-client\[audio\]'") as missing:
        read_wav(path)
    assert f"{path}: to change 16000 Hz into 24000 Hz" in str(missing.value)
    assert missing.value.name == "soxr"


def test_the_client_itself_needs_neither_soxr_nor_numpy() -> None:
    program = (
        "import sys; sys.modules.update(numpy=None, soxr=None)\n"
        "from trunkline_client import audio, AsyncClient, Client\n"
        "audio.encode(audio.silence(1), audio.PCMU); print(len(audio.Resampler(8000, 8000).feed(b'12')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"2\n", b"")


# With soxr.


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
def test_a_tone_stays_the_same_tone_at_another_rate(tmp_path: Path, rate_hz: int) -> None:
    path = stored(tmp_path, wav(tone(440, rate_hz), rate=rate_hz))
    for audio_format in (PCM_24K, PCMU):
        heard = audio.decode(read_wav(path, audio_format), audio_format)
        wanted = audio.rate_hz(audio_format)
        assert abs(len(heard) // 2 - wanted // 2) <= 2
        assert 218 <= crossings(heard) <= 222
        assert 9_500 < max(samples_of(heard)) < 10_500


@pytest.mark.parametrize("chunk_bytes", [1, 333, 960])
def test_a_stream_is_resampled_as_the_whole_is(chunk_bytes: int) -> None:
    whole = tone(440, 48_000, 0.1)
    resampler = Resampler(48_000, 24_000)
    pieces = [resampler.feed(whole[at : at + chunk_bytes]) for at in range(0, len(whole), chunk_bytes)]
    heard = samples_of(b"".join(pieces) + resampler.flush())
    wanted = samples_of(resample(whole, 48_000, 24_000))
    # soxr rounds by chance, so that the error is no tone.
    assert all(abs(one - other) <= 2 for one, other in zip(heard, wanted, strict=True))


def test_the_highest_sounds_are_not_folded_down() -> None:
    heard = resample(tone(7_000, 24_000), 24_000, 8_000)
    assert max(samples_of(heard)[200:-200]) < 200
