"""What a user is told when a command cannot be carried out."""


class CommandError(Exception):
    """Each argument is a sentence for stderr, without a traceback. Something was said wrongly: exit code 2."""

    exit_code = 2


class UnfulfilledError(CommandError):
    """The command was right, and a gateway refused it or did not answer: exit code 1."""

    exit_code = 1


class RefusedError(Exception):
    """What one gateway said instead of an answer; CONNECTION_LOST and TIMED_OUT where it said nothing."""

    def __init__(self, reason: str, message: str) -> None:
        """Keep the contract's word and the gateway's sentence."""
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.reason}: {self.message}"
