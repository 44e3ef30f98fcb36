"""Commands are imported when they are called, so that each starts without what only the others need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from ..errors import MissingExtra, TinyBioMoEError
from .messages import fitting

HELP = ["-h", "--help"]


class LazyCommand(click.Command):
    """Stands for the command `name` of a module of this folder; its arguments, --help included, go to that command."""

    def __init__(self, name: str, module: str, summary: str) -> None:
        super().__init__(
            name, callback=self.call, help=summary, add_help_option=False,
            params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
            context_settings={
                "ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": [],
            },
        )  # fmt: skip
        self.module = module

    def imported(self) -> click.Command:
        """The command itself.

        Raises
        ------
        MissingExtra
            A package of its extra is not installed.
        """
        found: click.Command = getattr(import_module(f"..{self.module}", __name__), str(self.name))
        return found

    def call(self, arguments: tuple[str, ...]) -> Any:
        """Run the command; without its extra, --help shows what it is for."""
        try:
            command = self.imported()
        except MissingExtra as error:
            if set(HELP).isdisjoint(arguments):
                raise
            return click.echo(f"{self.help}\n\nIts options can be listed once it is installed: {error}")
        try:
            return command.main(
                list(arguments), prog_name=f"tiny-biomoe {self.name}", standalone_mode=False, help_option_names=HELP
            )
        except TinyBioMoEError as error:
            error.args = (fitting(str(error), command), *error.args[1:])
            raise


COMMANDS = (
    LazyCommand("study", "study", "List a folder's recordings as a table, with people and labels."),
    LazyCommand("embed", "embed", "Embed recordings to one file, or a study to a folder."),
    LazyCommand("info", "info", "Say what made a folder of embeddings."),
    LazyCommand("compare", "info", "Say whether the vectors of two folders may be mixed."),
    LazyCommand("show", "show", "Draw the six images of a recording as one sheet."),
    LazyCommand("explore", "explore", "Write a map of a folder of embeddings, for any browser."),
    LazyCommand("similar", "similar", "Find the windows of a study that are most like one of yours."),
    LazyCommand("report", "report", "Write a report of a folder of embeddings as one HTML file."),
    LazyCommand("finetune", "finetune", "Train a classifier on the recordings that a table lists."),
    LazyCommand("predict", "predict", "Ask a classifier that finetune wrote about recordings."),
    LazyCommand("weights", "weights", "Show, verify or convert weights."),
    LazyCommand("export", "export", "Write the network as an ONNX file."),
    LazyCommand("selfcheck", "selfcheck", "Compare this machine's vectors with the bundled ones."),
)
