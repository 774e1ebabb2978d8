"""G.711 by table agrees with the standard's corner values and loses no more than the code must."""

import numpy as np
import pytest

from gateway.simulator import g711, speech


def test_mu_law_corner_values() -> None:
    assert g711.decode_mu_law(b"\x00\x80\xff\x7f").tolist() == [-32124, 32124, 0, 0]


def test_a_law_corner_values() -> None:
    assert g711.decode_a_law(b"\x2a\xaa\xd5\x55").tolist() == [-32256, 32256, 8, -8]


def test_every_code_survives_a_round_trip() -> None:
    codes = bytes(range(256))
    assert g711.encode_a_law(g711.decode_a_law(codes)) == codes
    # Mu-law has two zeros; they sound the same.
    again = g711.encode_mu_law(g711.decode_mu_law(codes))
    assert g711.decode_mu_law(again).tolist() == g711.decode_mu_law(codes).tolist()


@pytest.mark.parametrize(
    ("encode", "decode"),
    [(g711.encode_mu_law, g711.decode_mu_law), (g711.encode_a_law, g711.decode_a_law)],
    ids=["mu-law", "a-law"],
)
def test_speech_keeps_35_db_over_the_coding_noise(encode: g711.Encode, decode: g711.Decode) -> None:
    samples = (np.frombuffer(speech.replies()[0].pcm, np.int16) * 0.77).astype(np.int16)
    noise = decode(encode(samples)).astype(np.float64) - samples
    ratio = np.square(samples.astype(np.float64)).mean() / np.square(noise).mean()
    assert 10 * np.log10(ratio) > 35
