"""Where speech becomes audible: answers begin with silence, which nobody should take for an answer."""

from typing import Final

from gateway.core.audio import PCMU, AudioFormat

# About -50 dB of full scale: louder than what models send as silence, softer than any speech.
AUDIBLE_PCM: Final = 104
# The same as the distance from zero in the companded codes.
AUDIBLE_PCMU: Final = 12
AUDIBLE_PCMA: Final = 6
_SIGNLESS: Final = 0x7F
_PCMU_INVERTED: Final = 0xFF
_PCMA_INVERTED: Final = 0x55


def first_audible(data: bytes, fmt: AudioFormat) -> int | None:
    """Return the number of the first audible sample in a piece of audio; None = all of it is silence.

    Costs some 100 ns a sample up to there, so it is for the beginning of an answer only.
    """
    if fmt.sample_bytes == 1:
        inverted, least = (_PCMU_INVERTED, AUDIBLE_PCMU) if fmt is PCMU else (_PCMA_INVERTED, AUDIBLE_PCMA)
        return next((at for at, code in enumerate(data) if (code ^ inverted) & _SIGNLESS >= least), None)
    # Silence is mostly zeros, which are passed over at once.
    start = (len(data) - len(data.lstrip(b"\0"))) // fmt.sample_bytes
    whole = len(data) - len(data) % fmt.sample_bytes
    samples = memoryview(data)[start * fmt.sample_bytes : whole].cast("h")
    return next((at for at, sample in enumerate(samples, start) if abs(sample) >= AUDIBLE_PCM), None)
