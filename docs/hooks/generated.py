"""What the site says that only the code knows: the reference of the command line, and which design notes there are.

mkdocs calls :func:`on_config` and :func:`on_page_markdown`; see ``hooks`` in ``mkdocs.yml``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

__all__ = ["command_line_reference", "design_notes", "on_config", "on_page_markdown"]

_DESIGN = "Design notes"
_MARKER = "<!-- generated: command line -->"
_PROGRAM = "hangarlake"


def on_config(config: Any) -> Any:
    """Put the design notes into the navigation."""
    for entry in config.nav:
        if _DESIGN in entry:
            entry[_DESIGN] = design_notes(Path(config.docs_dir))
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the reference of the command line where a page asks for it."""
    return markdown.replace(_MARKER, command_line_reference()) if _MARKER in markdown else markdown


def design_notes(docs: Path) -> list[dict[str, str]]:
    """Return title and path of each design note, in order."""
    notes = []
    for path in sorted((docs / "design").glob("*.md")):
        title = re.search(r"^# (.+)$", path.read_text("utf-8"), re.MULTILINE)
        notes.append({title[1] if title else path.stem: f"design/{path.name}"})
    return notes


def command_line_reference() -> str:
    """Return the commands with their arguments and options as Markdown, grouped as ``--help`` groups them."""
    from typer.main import get_command

    from hangarlake.cli.app import app

    program = get_command(app)
    lines = ["## Global options", "", "They stand before the command.", "", *_parameters(program)]
    panel = None
    for name, command in program.commands.items():
        if command.hidden:
            continue
        own = getattr(command, "rich_help_panel", None)
        own = own if isinstance(own, str) else "Commands"
        if own != panel:
            lines += ["", f"## {own}"]
            panel = own
        lines += _command(f"{_PROGRAM} {name}", command)
    return "\n".join(lines) + "\n"


def _command(path: str, command: Any) -> Iterator[str]:
    yield from ["", f"### {path.removeprefix(_PROGRAM + ' ')}", ""]
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield from _described(path, command)
        return
    yield from [inspect.cleandoc(command.help or ""), ""]
    for name, each in subcommands.items():
        if not each.hidden:
            yield from ["", f"#### {path.removeprefix(_PROGRAM + ' ')} {name}", ""]
            yield from _described(f"{path} {name}", each)


def _described(path: str, command: Any) -> Iterator[str]:
    places = [_metavar(parameter) for parameter in command.params if parameter.param_type_name == "argument"]
    yield from ["```text", " ".join([path, "[OPTIONS]", *places]), "```", "", inspect.cleandoc(command.help or ""), ""]
    yield from _parameters(command)


def _parameters(command: Any) -> Iterator[str]:
    shown = [p for p in command.params if p.name != "help" and not getattr(p, "hidden", False)]
    if not shown:
        return
    yield from ["| argument or option | |", "|---|---|"]
    for parameter in shown:
        text = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
        yield f"| {_names(parameter)} | {text}{_default(parameter)} |"


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_metavar(parameter)}`"
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if getattr(parameter, "is_flag", False) or getattr(parameter, "count", False):
        return names
    return f"{names} `{parameter.metavar or _kind(parameter)}`"


def _kind(parameter: Any) -> str:
    """Return the kind of value of an option; typer brings click's classes with it in some releases and imports them in others."""
    kind = getattr(parameter, "type", None)
    if kind is None:
        annotation = parameter.type_descriptor.annotation
        kinds = {str: "TEXT", int: "INTEGER", float: "FLOAT", Path: "PATH"}
        choices = annotation if isinstance(annotation, type) and issubclass(annotation, Enum) else None
        name = kinds.get(annotation, "VALUE")
    else:
        choices, name = getattr(kind, "choices", None), kind.name.upper()
    return " or ".join(str(getattr(choice, "value", choice)) for choice in choices) if choices else name


def _metavar(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    name = f"{name}…" if parameter.nargs == -1 else name
    return name if parameter.required else f"[{name}]"


def _default(parameter: Any) -> str:
    default = parameter.default
    default = getattr(default, "value", default)
    if parameter.required or not isinstance(default, str | int | float) or isinstance(default, bool) or default == "":
        return ""
    return f" Default: `{default}`."
