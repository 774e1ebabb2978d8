"""Another sample rate, by soxr: the one part of this client that needs more than gRPC."""

from typing import Any, Final

_EXTRA: Final = "pip install 'trunkline-client[audio]'"


class Resampler:
    """Changes the rate of a stream of 16-bit mono PCM. One stream each; not for several threads."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        """Begin a stream.

        Raises:
            ImportError: Where the rates differ and soxr is not installed; the text has the command.
            ValueError: For a rate that is not above 0.
        """
        if from_hz <= 0 or to_hz <= 0:
            raise ValueError(f"a sample rate is above 0, not {from_hz} or {to_hz}")
        self._stream = None if from_hz == to_hz else _Soxr(from_hz, to_hz)
        self._half = b""

    def feed(self, pcm: bytes) -> bytes:
        """Return what is ready after these bytes; soxr keeps some milliseconds back."""
        if self._stream is None:
            return pcm
        pcm = self._half + pcm
        whole = len(pcm) // 2 * 2
        self._half = pcm[whole:]
        return self._stream.feed(pcm[:whole], last=False)

    def flush(self) -> bytes:
        """Return what is left; nothing can be fed after it."""
        return b"" if self._stream is None else self._stream.feed(b"", last=True)


class _Soxr:
    """soxr's stream, between bytes."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        try:
            # Not above: the rest of this client works without the two.
            import numpy as np  # noqa: PLC0415
            import soxr  # noqa: PLC0415
        except ImportError as missing:
            text = f"to change {from_hz} Hz into {to_hz} Hz this client needs soxr and numpy: {_EXTRA}"
            raise ImportError(text, name=missing.name) from None
        self._numpy: Any = np
        self._stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="int16")

    def feed(self, pcm: bytes, *, last: bool) -> bytes:
        samples = self._numpy.frombuffer(pcm, dtype="<i2").astype("int16")
        resampled: bytes = self._stream.resample_chunk(samples, last=last).astype("<i2").tobytes()
        return resampled
