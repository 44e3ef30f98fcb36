"""Messages of the library as a command shows them: they name no option that the command does not have."""

from __future__ import annotations

import re

import click

MENTION = re.compile(r" ?\((--[a-z][^()]*)\)")  # how messages name an option, beside the argument of Python
OPTION = re.compile(r"--[a-z][a-z-]*")
CELLS = ("--fs", "--modality", "--column")  # which a study says by a column of that name


def fitting(text: str, command: click.Command | None = None) -> str:
    """A message without the options that a command, the one that is run, lacks.

    Where the command reads a study that may say it instead, the column of the study is named.

    >>> study = click.Command("predict", params=[click.Argument(["source"])])
    >>> fitting('give it, e.g. fs=100 (--fs 100), or split it, on_hole="split" (--on-hole split)', study)
    'give it, e.g. fs=100 (column fs of the study), or split it, on_hole="split"'
    """
    if command is None:
        context = click.get_current_context(silent=True)
        command = context.command if context else None
    if command is None:
        return text
    has = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    study = any(isinstance(each, click.Argument) and each.name in ("source", "study") for each in command.params)

    def shown(mention: re.Match[str]) -> str:
        """A mention of options, as it is where the command has them; else the column in their place, or nothing."""
        named = OPTION.findall(mention[1])
        if has.issuperset(named):
            return mention[0]
        return f" (column {named[0][2:]} of the study)" if study and named[0] in CELLS else ""

    return MENTION.sub(shown, text)
