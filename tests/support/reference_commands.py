"""docs/reference/commands.md, made from the command itself: every verb with its arguments and options."""

from collections import Counter
from typing import Any, Final

import typer

from gateway.cli.main import app
from tests.support.reference_markdown import code, codes, page, sentence, table

NAME: Final = "commands.md"
# What so many verbs take alike is shown once.
SHARED_FROM: Final = 5
_HEAD: Final = ("Option", "Default", "Meaning")
_SHARED: Final = "Shared options"
_SHARED_BY: Final = (
    "By these a verb reaches gateways, and says how to answer. Each of the verbs above says whether it takes them."
)
_USE: Final = """\
With this page you can look up every verb of `trunkline`, its arguments and its options. `trunkline VERB --help` prints
the same.

A verb that fails says so in one sentence on stderr. Its exit code is 2 if it could not do what it was asked to: a wrong
option, a file that is not there. It is 1 if a gateway refused, or did not answer. Verbs that call a gateway take the
token from `TRUNKLINE_TOKEN` or from `--token-file`, never from an argument."""

Row = tuple[str, str, str]


def render() -> str:
    """Return the page."""
    shared = [row for row, count in _counted_rows().items() if count >= SHARED_FROM]
    parts = [_verb(name, each, shared) for name, each in verbs().items()]
    return page("Commands", _USE, "`gateway/cli/`", *parts, f"## {_SHARED}", _SHARED_BY, table(_HEAD, shared))


def verbs() -> dict[str, Any]:
    """Return the verbs by name, in the order of the help."""
    command: Any = typer.main.get_command(app)
    found: dict[str, Any] = dict(command.commands)
    return found


def _counted_rows() -> Counter[Row]:
    return Counter(row for verb in verbs().values() for row in _rows(verb))


def _rows(verb: Any) -> list[Row]:
    """Return a row for each option."""
    options = [each for each in verb.params if each.param_type_name == "option"]
    return [(codes((*each.opts, *each.secondary_opts)), _default(each), each.help or "") for each in options]


def _verb(name: str, verb: Any, shared: list[Row]) -> str:
    arguments = [each for each in verb.params if each.param_type_name == "argument"]
    usage = code(" ".join(["trunkline", name, *map(_metavar, arguments)]))
    about = [f"{code(_metavar(each))}: {each.help}" for each in arguments if each.help]
    rows = _rows(verb)
    own = [row for row in rows if row not in shared]
    parts = [f"## {name}", sentence(" ".join((verb.help or "").split())), usage, *about]
    parts += [table(_HEAD, own)] if own else []
    parts += (
        [f"It takes the [{_SHARED.lower()}](#{_SHARED.lower().replace(' ', '-')}), too."]
        if len(own) < len(rows)
        else []
    )
    return "\n\n".join(parts)


def _metavar(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _default(option: Any) -> str:
    if option.default is None or option.default is False or option.default == "":
        return ""
    return code(option.default)
