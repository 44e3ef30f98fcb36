"""HTML pages from the templates of this folder; whatever comes from a study is escaped."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..errors import ConfigError
from ..version import __version__

TEMPLATES = Path(__file__).parent / "templates"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    loader = FileSystemLoader(TEMPLATES)
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters["duration"] = duration
    return found


def duration(hours: float) -> str:
    """Hours as people say them.

    >>> duration(0.25), duration(3.5), duration(12345)
    ('15 min', '3.5 h', '12,345 h')
    """
    if hours < 1:
        return f"{60 * hours:.2g} min"
    return f"{hours:.3g} h" if hours < 100 else f"{hours:,.0f} h"


def page(template: str, **values: Any) -> bytes:
    """A template filled in, as UTF-8."""
    css = Markup((TEMPLATES / "page.css").read_text("utf-8"))
    text = _environment().get_template(template).render(page_css=css, version=__version__, **values)
    return text.encode("utf-8", "backslashreplace")


def script(name: str) -> Markup:
    """One of our own scripts."""
    return Markup((TEMPLATES / name).read_text("utf-8"))


def json_in_html(value: Any) -> Markup:
    """JSON that no text in it can end early: it stands within a script element.

    >>> json_in_html("</script>")
    Markup('"\\\\u003c/script>"')
    """
    return Markup(json.dumps(value, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c"))


def check_page(path: str | os.PathLike[str], *endings: str) -> Path:
    """The path of a file to write, once its ending and its folder are found right.

    Raises
    ------
    ConfigError
        Another ending, or a folder that is not there.
    """
    found = Path(path)
    if found.suffix.lower() not in endings:
        raise ConfigError(f"{str(found)!r}: the output ends in {' or '.join(endings)}")
    if not found.absolute().parent.is_dir():
        raise ConfigError(f"the folder {str(found.absolute().parent)!r} does not exist: create it first")
    return found
