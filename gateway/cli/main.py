"""The verbs of `trunkline`, and how their failures are told: a sentence on stderr, and an exit code."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway import __version__
from gateway.cli import verbs
from gateway.cli.failure import CommandError
from gateway.cli.verbs import AsJson, reaching, verb

app = typer.Typer(
    name="trunkline",
    help="Keeps Realtime lines warm and leases them over gRPC.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(verbs.app)

ConfigFile = Annotated[Path | None, typer.Option("--config", help="The configuration file (YAML).")]


@app.command()
def serve(
    config: ConfigFile = None,
    insecure_dev: Annotated[bool, typer.Option("--insecure-dev", help="Let everybody on this machine in.")] = False,
    logs: Annotated[str, typer.Option(help="json, or pretty for a terminal.")] = "json",
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C; a second signal stops at once."""
    verb("serve").serve(config, insecure_dev=insecure_dev, pretty=logs == "pretty")


@app.command()
def demo(
    real: Annotated[bool, typer.Option("--real", help="Use OpenAI's API with OPENAI_API_KEY. Costs money.")] = False,
    calls: Annotated[int, typer.Option(min=2, help="Calls of each kind, warm and cold.")] = 20,
    output: Annotated[Path, typer.Option(help="Where the results go.")] = Path("output"),
) -> None:
    """Make warm and cold calls, half text, half speech; leave WAV files, a table and a plot."""
    verb("demo").demo(real=real, calls=calls, output=output)


@app.command()
def dev() -> None:
    """Run a simulator and a gateway on it, until Ctrl-C."""
    verb("dev").dev()


@app.command()
@reaching
def probe(
    access: Any,
    *,
    calls: Annotated[int, typer.Option(min=1, help="How many calls.")] = 10,
    template: Annotated[str, typer.Option(help="Which template.")] = "default",
    json: AsJson = False,
) -> None:
    """Make calls to a gateway and measure them; exit 1 when one fails."""
    verb("probe").probe(access, calls, template, as_json=json)


@app.command()
def simulator(  # noqa: PLR0913, PLR0917 - one argument for each option
    port: Annotated[int, typer.Option(min=1, max=65535)] = 9180,
    connect_delay_ms: Annotated[int, typer.Option(min=0, help="Before the upgrade.")] = 0,
    created_delay_ms: Annotated[int, typer.Option(min=0, help="Before session.created.")] = 0,
    first_audio_ms: Annotated[int, typer.Option(min=0, help="Before the first audio.")] = 0,
    expire_after_seconds: Annotated[int, typer.Option(min=1, help="A session's life.")] = 3600,
    rate_limits: Annotated[bool, typer.Option(help="Send rate_limits.updated.")] = False,
    fault: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND[:KEY=VALUE,…]", help="What goes wrong; may be repeated (docs/simulator.md)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the chance by which sockets get faults.")] = 0,
) -> None:
    """Run a Realtime API to develop and test against."""
    simulation = import_module("gateway.simulator")
    try:
        faults = tuple(map(simulation.fault_from_text, fault or ()))
    except simulation.FaultError as error:
        raise CommandError(f"--fault: {error}") from None
    options = simulation.SimulatorOptions(
        port=port,
        connect_delay_ms=connect_delay_ms,
        created_delay_ms=created_delay_ms,
        first_audio_ms=first_audio_ms,
        expire_after_seconds=expire_after_seconds,
        rate_limits=rate_limits,
        faults=faults,
        seed=seed,
    )
    try:
        simulation.run(options)
    except OSError as error:
        raise CommandError(f"the simulator cannot listen on port {port}: {error.strerror}") from None


@app.command()
def config(
    config: ConfigFile = None,
    example: Annotated[bool, typer.Option("--example", help="Print a commented file with every setting.")] = False,
) -> None:
    """Print the configuration as it would be used, secrets masked; or an example."""
    shown = verb("config")
    shown.example() if example else shown.effective(config)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def main() -> None:
    """Run the command."""
    try:
        code = app(standalone_mode=False)
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except typer.TyperException as error:
        print(f"trunkline: {error.format_message()} (see trunkline --help)", file=sys.stderr)
        sys.exit(error.exit_code)
    except CommandError as error:
        for sentence in error.args:
            print(f"trunkline: {sentence}", file=sys.stderr)
        sys.exit(error.exit_code)
    # Typer answers Ctrl-C inside a command with a code that it returns; it raises nothing.
    sys.exit(code if isinstance(code, int) else 0)
