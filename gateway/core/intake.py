"""What has been taken of a resumable caller's input: each control once, each sample once, whatever is sent again."""

from typing import Final

from gateway.core.errors import CallerError, Reason

# More samples than a session has.
POSITION_MAX: Final = (1 << 53) - 1


class Intake:
    """One session's input, over all streams of it."""

    __slots__ = ("_sample_bytes", "cseq", "samples")

    def __init__(self, sample_bytes: int, cseq: int = 0, samples: int = 0) -> None:
        """Begin behind what was taken before."""
        self._sample_bytes = sample_bytes
        self.cseq = cseq
        self.samples = samples

    def behind(self, size_bytes: int) -> int:
        """Return where so much of the audio begins that came last, in samples since the session began."""
        return max(0, self.samples - size_bytes // self._sample_bytes)

    def split(self, audio: bytes, at: int) -> tuple[bytes, bytes]:
        """Cut the piece that came last at a sample of the session."""
        size = len(audio) - max(0, self.samples - at) * self._sample_bytes
        return audio[: max(0, size)], audio[max(0, size) :]

    def takes(self, cseq: int) -> bool:
        """Whether a control is new. Raises `CallerError` INVALID_FRAME for one that has no number, or skips some."""
        if not cseq:
            raise CallerError(Reason.INVALID_FRAME, "controls of a resumable session are numbered: set cseq")
        if cseq > self.cseq + 1:
            raise CallerError(Reason.INVALID_FRAME, f"control {self.cseq + 1} is wanted next, not {cseq}")
        if cseq <= self.cseq:
            return False
        self.cseq = cseq
        return True

    def audio(self, audio: bytes, position: int) -> bytes:
        """Return what is new of a piece that begins at `position`, in samples. What is missing before it stays so.

        Raises `CallerError` INVALID_FRAME for a position that no session comes to.
        """
        if position > POSITION_MAX:
            raise CallerError(Reason.INVALID_FRAME, f"audio_position is over {POSITION_MAX}")
        known = self.samples - position
        if known > 0:
            audio = audio[known * self._sample_bytes :]
        elif known < 0:
            self.samples = position
        self.samples += len(audio) // self._sample_bytes
        return audio
