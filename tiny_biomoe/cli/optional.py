"""Commands of optional extras, whose modules are imported when they are called."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from ..errors import MissingExtra

HELP = ["-h", "--help"]


def optional_command(name: str, module: str, summary: str) -> click.Command:
    """A command that stands for the one called `name` in a module of the package, its --help included."""

    def call(arguments: tuple[str, ...]) -> Any:
        """Import the command and hand everything over; without its extra, --help says what it is for."""
        try:
            command: click.Command = getattr(import_module(module, "tiny_biomoe"), name)
        except MissingExtra as error:
            if set(HELP).isdisjoint(arguments):
                raise
            return click.echo(f"{summary}\n\nIts options can be listed once it is installed: {error}")
        return command.main(
            list(arguments), prog_name=f"tiny-biomoe {name}", standalone_mode=False, help_option_names=HELP
        )

    return click.Command(
        name, callback=call, help=summary, add_help_option=False, params=[click.Argument(["arguments"], nargs=-1)],
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []},
    )  # fmt: skip


COMMANDS = (
    optional_command("finetune", ".cli.finetune", "Train a classifier on the recordings that a table lists."),
    optional_command("predict", ".cli.predict", "Ask a classifier that finetune wrote about recordings."),
)
