"""Commands of the optional halves, which are imported when they are called and not when the others are."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from .channels import MissingExtra

HELP = ["-h", "--help"]


def later(name: str, module: str, summary: str) -> click.Command:
    """A command that stands for the one called `name` in a module of the package, its --help included."""

    def call(arguments: tuple[str, ...]) -> Any:
        """Import the command and hand everything over; without its extra, --help says what it is for."""
        try:
            command: click.Command = getattr(import_module(module, __package__), name)
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
    later("finetune", ".train.commands", "Train a classifier on the recordings that a table lists."),
    later("predict", ".train.commands", "Ask a classifier that finetune wrote about recordings."),
)
