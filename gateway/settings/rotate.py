"""When a session leaves a line for another one."""

from pydantic import Field

from gateway.settings.sections import Section


class RotateSettings(Section):
    """When a session moves to a fresh line."""

    before_seconds: float = Field(
        120, gt=0, description="before the provider's deadline; a tenth of a life under 30 min"
    )
    jitter_seconds: float = Field(30, ge=0, description="so that not all move at once")
    hard_seconds: float = Field(15, gt=0, description="when it moves even in mid-speech")
    slow_ratio: float = Field(2.5, ge=0, description="first audio grown so much on one line: it moves; 0 = never")
    sums_up: bool = Field(False, description="then the next line is told a summary of what is old")
