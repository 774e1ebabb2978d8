"""Sound files: what can be read, and what is written as it comes."""

import struct
import wave
from pathlib import Path

import pytest

from trunkline_client.audio import PCMA, WavWriter, read_pcm, read_wav, silence, write_wav

from .sounds import PCM, SAMPLES, pcm16, stored, wav


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", PCM)
    assert read_wav(tmp_path / "a.wav") == PCM
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 24_000)


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize(
    ("bits", "data"),
    [
        (16, pcm16(*SAMPLES)),
        (24, b"".join(struct.pack("<i", sample * 0x100)[:3] for sample in SAMPLES)),
        (32, struct.pack(f"<{len(SAMPLES)}i", *(sample * 0x10000 for sample in SAMPLES))),
    ],
)
def test_samples_of_each_width_keep_their_value(tmp_path: Path, bits: int, data: bytes, extensible: bool) -> None:  # noqa: FBT001
    assert read_wav(stored(tmp_path, wav(data, bits=bits, extensible=extensible))) == pcm16(*SAMPLES)


def test_samples_of_8_bits_have_no_sign(tmp_path: Path) -> None:
    assert read_wav(stored(tmp_path, wav(b"\x00\x80\xff", bits=8))) == pcm16(-32_768, 0, 0x7F00)


@pytest.mark.parametrize("channels", [2, 3, 6])
def test_channels_are_mixed(tmp_path: Path, channels: int) -> None:
    frames = b"".join(pcm16(*[sample] * (channels - 1), 0) for sample in (3000, -3000, 32_767))
    mixed = [sample * (channels - 1) // channels for sample in (3000, -3000, 32_767)]
    assert read_wav(stored(tmp_path, wav(frames, channels=channels))) == pcm16(*mixed)


def test_a_file_that_was_written_to_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    content = bytearray(wav(PCM))
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff\xff\xff\xff"
    assert read_wav(stored(tmp_path, bytes(content))) == PCM


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is no WAV file"),
        (b"ID3 an mp3 file, named wrongly", "it is no WAV file"),
        (b"RIFF\0\0\0\0WAVE", "without sound"),
        (wav(b""), "without sound"),
        (wav(PCM)[:30], "without sound"),
        (wav(bytes(16), form=3, bits=32), r"1 channel\(s\) of 32 bits at 24000 Hz in form 0x0003"),
        (wav(bytes(16), bits=64), "of 64 bits"),
        (wav(bytes(16), channels=0), r"0 channel\(s\)"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_it_is_and_what_helps(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = stored(tmp_path, content)
    with pytest.raises(ValueError, match=said) as refused:
        read_wav(path)
    assert str(path) in str(refused.value)
    assert "ffmpeg -i" in str(refused.value)


def test_raw_samples_are_read_as_they_are(tmp_path: Path) -> None:
    assert read_pcm(stored(tmp_path, PCM), 24_000) == PCM
    for wrong in (PCM[:-1], wav(PCM)):
        with pytest.raises(ValueError, match="no raw 16-bit PCM"):
            read_pcm(stored(tmp_path, wrong), 24_000)


# A file that grows.


def test_a_file_is_complete_after_each_piece(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    with WavWriter(path) as writer:
        for number in (1, 2, 3):
            writer.write(PCM)
            assert read_wav(path) == PCM * number
        assert writer.seconds == pytest.approx(0.3)
    writer.close()
    assert read_wav(path) == PCM * 3


def test_a_file_without_a_piece_is_a_wav_file_too(tmp_path: Path) -> None:
    with WavWriter(tmp_path / "out.wav") as writer:
        assert writer.seconds == 0
    with wave.open(str(tmp_path / "out.wav")) as file:
        assert file.getnframes() == 0


def test_the_audio_of_a_telephone_is_written_as_samples(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    with WavWriter(path, PCMA) as writer:
        writer.write(silence(1.5, PCMA))
        assert writer.seconds == 1.5
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getsampwidth(), file.getnframes()) == (8000, 2, 12_000)
