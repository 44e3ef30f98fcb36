"""The command line `tiny-biomoe`: the list of its commands, and how errors are shown.

Exit codes: 0 all done, 2 some inputs failed, 1 nothing could run.
"""

from __future__ import annotations

import sys
import warnings

import click

from ..errors import TinyBioMoEError
from ..version import __version__
from .lazy_commands import COMMANDS, HELP
from .messages import fitting


@click.group(context_settings={"help_option_names": HELP})
@click.version_option(__version__, prog_name="tiny-biomoe")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Embeddings of physiological signals."""


for _command in COMMANDS:
    cli.add_command(_command)


def _one_line(message: Warning | str, *_: object, **__: object) -> str:
    return f"warning: {fitting(str(message))}\n"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors are one line, unless --debug."""
    arguments = sys.argv[1:] if arguments is None else arguments
    warnings.formatwarning = _one_line  # type: ignore[assignment]
    try:
        sys.exit(cli(arguments, standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
    except click.Abort:
        sys.exit(130)
    except (TinyBioMoEError, OSError) as error:
        if "--debug" in arguments:
            raise
        click.echo(f"error: {error}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
