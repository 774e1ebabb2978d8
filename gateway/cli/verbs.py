"""The operators' verbs of `trunkline`: their arguments, and the options by which gateways are reached."""

import inspect
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import typer

DEFAULT_ADDRESS: Final = "127.0.0.1:50051"
_UINT32_MAX: Final = 2**32 - 1

app = typer.Typer()

Address = Annotated[
    str,
    typer.Option(help="The gateway, HOST:PORT; several by commas. A name with several addresses is asked at all."),
]
TokenFile = Annotated[Path | None, typer.Option(help="A file with the token; else TRUNKLINE_TOKEN is used.")]
CaFile = Annotated[Path | None, typer.Option(help="The authority of the gateway's certificate (PEM); sets TLS on.")]
CertFile = Annotated[Path | None, typer.Option(help="Our own certificate (PEM), where the gateway wants one.")]
KeyFile = Annotated[Path | None, typer.Option(help="Its private key (PEM).")]
ServerName = Annotated[
    str | None, typer.Option(help="The name in the gateway's certificate, where the address has another.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Pool = Annotated[str, typer.Argument(help="The pool: its template's name.", show_default=False)]
MaybePool = Annotated[str | None, typer.Argument(help="The pool: its template's name; else all.", show_default=False)]


def _number(meaning: str, least: int = 0) -> Any:
    return typer.Option(min=least, max=_UINT32_MAX, help=meaning)


def verb(module: str) -> Any:
    """Import a verb's module when it is used: `trunkline config` should not load a plotting library."""
    return import_module(f"gateway.cli.{module}")


def reaching(command: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options by which gateways are reached; it takes them as one `access`."""

    def options(
        address: Address = DEFAULT_ADDRESS,
        token_file: TokenFile = None,
        ca_file: CaFile = None,
        cert_file: CertFile = None,
        key_file: KeyFile = None,
        server_name: ServerName = None,
    ) -> Any:
        return verb("access").Access(address, token_file, ca_file, cert_file, key_file, server_name)

    reach = inspect.signature(options).parameters
    own = inspect.signature(command).parameters

    @wraps(command)
    def asked(**given: Any) -> None:
        access = options(**{name: given.pop(name) for name in reach})
        command(access=access, **given)

    together = [each for name, each in own.items() if name != "access"] + list(reach.values())
    together = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in together]
    # Typer reads both.
    asked.__signature__ = inspect.Signature(together)  # type: ignore[attr-defined]
    asked.__annotations__ = {each.name: each.annotation for each in together}
    return asked


# Reading.


@app.command()
@reaching
def pools(access: Any, *, json: AsJson = False) -> None:
    """Show every pool."""
    verb("admin").pools(access, as_json=json)


@app.command()
@reaching
def leases(access: Any, *, json: AsJson = False) -> None:
    """Show every lease."""
    verb("admin").leases(access, as_json=json)


@app.command()
@reaching
def sessions(access: Any, *, json: AsJson = False) -> None:
    """Show every session."""
    verb("admin").sessions(access, as_json=json)


@app.command()
@reaching
def capabilities(access: Any, *, json: AsJson = False) -> None:
    """Show what each gateway can do."""
    verb("admin").capabilities(access, as_json=json)


@app.command()
@reaching
def top(
    access: Any,
    *,
    once: Annotated[bool, typer.Option("--once", help="Show everything once.")] = False,
    interval_ms: Annotated[int, typer.Option(min=100, max=60_000, help="How often there are news.")] = 1000,
    json: AsJson = False,
) -> None:
    """Watch gateways, pools and sessions; q leaves, p and s sort. In a pipe: one page after the other."""
    verb("top").top(access, once=once, interval_ms=interval_ms, as_json=json)


# Steering.


@app.command()
@reaching
def pause(access: Any, pool: Pool, *, json: AsJson = False) -> None:
    """Refuse new callers of a pool; running sessions go on."""
    verb("steering").pause(access, pool, as_json=json)


@app.command()
@reaching
def unpause(access: Any, pool: Pool, *, json: AsJson = False) -> None:
    """End a pause or a drain of a pool."""
    verb("steering").unpause(access, pool, as_json=json)


@app.command()
@reaching
def drain(
    access: Any,
    pool: MaybePool = None,
    *,
    deadline_seconds: Annotated[
        int | None, _number("How long a gateway's sessions may go on; else its drain_seconds.", least=1)
    ] = None,
    everywhere: Annotated[bool, typer.Option("--all", help="Drain several gateways, not one.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: AsJson = False,
) -> None:
    """Close a pool's idle lines and refuse its new callers; or, without a pool, make a gateway ready to stop."""
    if pool is None:
        verb("steering").drain_gateway(access, deadline_seconds or 0, at_all=everywhere, sure=yes, as_json=json)
    else:
        verb("steering").drain_pool(access, pool, deadline_seconds, as_json=json)


@app.command()
@reaching
def retire(
    access: Any,
    pool: MaybePool = None,
    *,
    below_version: Annotated[
        str, typer.Option(help="Only lines of an older version of the template; else than its newest.")
    ] = "",
    json: AsJson = False,
) -> None:
    """Replace idle lines of a pool, or of all, that an older template has configured."""
    verb("steering").retire(access, pool, below_version, as_json=json)


@app.command()
@reaching
def limits(  # noqa: PLR0913 - one argument for each option
    access: Any,
    pool: Pool,
    *,
    floor: Annotated[int | None, _number("Lines to have ready at least.")] = None,
    ceiling: Annotated[int | None, _number("Lines that there may be.")] = None,
    dials_max: Annotated[int | None, _number("Lines that may be opened at once.")] = None,
    waiters_max: Annotated[int | None, _number("Callers that may wait.")] = None,
    wait_max_ms: Annotated[int | None, _number("How long each may wait.")] = None,
    json: AsJson = False,
) -> None:
    """Change a pool's limits until the next start; what is not given stays."""
    changes = {
        "floor": floor,
        "ceiling": ceiling,
        "dials_max": dials_max,
        "waiters_max": waiters_max,
        "wait_max_ms": wait_max_ms,
    }
    verb("steering").limits(access, pool, changes, as_json=json)


@app.command()
@reaching
def kill(
    access: Any,
    session_id: Annotated[str, typer.Argument(help="The whole id, as `trunkline sessions` shows it.")],
    *,
    reason: Annotated[str, typer.Option(help="Why: for the log and for the caller.")],
    json: AsJson = False,
) -> None:
    """End one session, at whichever gateway it runs."""
    verb("steering").kill(access, session_id, reason, as_json=json)
