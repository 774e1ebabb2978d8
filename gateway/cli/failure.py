"""What a user is told when a command cannot be carried out."""


class CommandError(Exception):
    """The sentence goes to stderr, the exit code is 2; no traceback."""
