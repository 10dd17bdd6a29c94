"""The command `icsim`: finds the subcommand, and turns every error into one message and an exit code.

Plumbing. Exit codes: 0 ok, 1 an invariant or a call failed, 2 bad input, 3 divergence, 130 Ctrl-C. Subcommands are imported
only when they are called, so that each starts quickly.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path

import click

from ic_types.errors import IcsimError

EXIT_INTERRUPTED = 130
COMMANDS = {
    "run": ("subnet.cli.run:run", "Run a topology's workload and check the invariants."),
    "replay": ("subnet.cli.replay:replay", "Execute a recorded run again and compare every hash."),
    "check": ("subnet.cli.check:check", "Validate a topology and estimate its memory."),
    "schema": ("subnet.cli.check:schema", "Print the JSON schema of topology files."),
    "up": ("subnet.cli.up:up", "Keep a network running for the commands below."),
    "status": ("subnet.cli.status:status", "Show where a running network stands."),
    "call": ("subnet.cli.calls:call", "Call a canister's update method."),
    "query": ("subnet.cli.calls:query", "Call a canister's query method."),
    "advance": ("subnet.cli.steer:advance", "Make rounds."),
    "logs": ("subnet.cli.steer:logs", "Show a canister's log."),
    "outcalls": ("subnet.cli.outcalls:outcalls", "Show and answer canisters' HTTPS outcalls."),
    "down": ("subnet.cli.steer:down", "End a running network."),
    "canister": ("subnet.cli.canister:canister", "Make, call and manage canisters."),
    "deploy": ("subnet.cli.deploy:deploy", "Bring a project's canisters onto a network."),
    "identity": ("subnet.cli.identity:identity", "Keep the keys that commands sign with."),
    "candid": ("subnet.cli.candid:candid", "Check service files, encode and decode values."),
    "wasm": ("subnet.cli.wasm:wasm", "Check, instrument or profile a canister module."),
    "doctor": ("subnet.cli.doctor:doctor", "Check what this machine offers."),
}
"""Where each subcommand lives, and its line in the help."""


class _LazyGroup(click.Group):
    """A group that imports a subcommand when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"commands are: {', '.join(COMMANDS)}"
            raise click.UsageError(f"there is no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"icsim {version('icsim')}")
        ctx.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Print the version.")
def cli() -> None:
    """Run Internet Computer subnets on this machine: real canisters, deterministic rounds, certified streams.

    `icsim run configs/quickstart.toml` shows what it does.
    """


def run(arguments: list[str]) -> int:
    """Carry out a command line; returns the exit code."""
    try:
        result = cli.main(args=arguments, prog_name="icsim", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except IcsimError as error:
        click.echo(f"icsim: {error}", err=True)
        return error.exit_code
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else "icsim"
        click.echo(f"icsim: {error.format_message()} (`{where} --help` shows what is allowed)", err=True)
        return error.exit_code
    except click.ClickException as error:
        click.echo(f"icsim: {error.format_message()}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # nobody reads on, as in `icsim run ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        click.echo(f"icsim: unexpected {type(error).__name__}: {error}; the traceback is in {_log_traceback()}", err=True)
        return 1


def _log_traceback() -> Path | str:
    import traceback

    from subnet.lab.run_dir import home

    path = home() / "errors" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{sys.argv}\n{traceback.format_exc()}")
    except OSError:
        return f"no file, since {path.parent} can't be written:\n{traceback.format_exc()}"
    return path


def main() -> None:
    """Entry of `icsim`."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
