"""What the site says that only the code knows: the reference of the command line, and which design notes there are.

mkdocs calls :func:`on_config`, :func:`on_page_markdown` and :func:`on_page_content`; see ``hooks`` in ``mkdocs.yml``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

__all__ = [
    "command_line_reference",
    "design_notes",
    "help_as_markdown",
    "on_config",
    "on_page_content",
    "on_page_markdown",
]

_DESIGN = "Design notes"
_MARKER = "<!-- generated: command line -->"
_PROGRAM = "hangarlake"
# The dash between a parameter and its description, where there is none.
_EMPTY_DESCRIPTION = re.compile(r'–\s*<div class="doc-md-description">\s*</div>')
_DIAGRAM = re.compile(r'<pre class="mermaid">.*?</pre>', re.DOTALL)


def on_config(config: Any) -> Any:
    """Put the design notes into the navigation."""
    for entry in config.nav:
        if _DESIGN in entry:
            entry[_DESIGN] = design_notes(Path(config.docs_dir))
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the reference of the command line where a page asks for it."""
    return markdown.replace(_MARKER, command_line_reference()) if _MARKER in markdown else markdown


def on_page_content(html: str, **_: Any) -> str:
    """Leave no dash where a parameter, whose name says enough, has no description; put diagrams where they can scroll."""
    return _DIAGRAM.sub(lambda found: f'<div class="diagram">{found[0]}</div>', _EMPTY_DESCRIPTION.sub("", html))


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
    panels: dict[str, list[str]] = {}
    for name, command in program.commands.items():
        if command.hidden:
            continue
        panel = getattr(command, "rich_help_panel", None)
        section = panels.setdefault(panel if isinstance(panel, str) else "Commands", [])
        section += _command(f"{_PROGRAM} {name}", command)
    for panel, section in panels.items():
        lines += ["", f"## {panel}", *section]
    return "\n".join(lines) + "\n"


def help_as_markdown(help_text: str | None) -> str:
    """Return a text that is written for a terminal as Markdown: only what stands in backticks is marked up."""
    parts = inspect.cleandoc(help_text or "").split("`")
    parts[::2] = [
        re.sub(r"([*_\[\]])", r"\\\1", part.replace("&", "&amp;").replace("<", "&lt;")) for part in parts[::2]
    ]
    return "`".join(parts)


def _command(path: str, command: Any) -> Iterator[str]:
    yield from ["", f"### {path.removeprefix(_PROGRAM + ' ')}", ""]
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield from _described(path, command)
        return
    yield from [help_as_markdown(command.help), ""]
    for name, each in subcommands.items():
        if not each.hidden:
            yield from ["", f"#### {path.removeprefix(_PROGRAM + ' ')} {name}", ""]
            yield from _described(f"{path} {name}", each)


def _described(path: str, command: Any) -> Iterator[str]:
    places = [_metavar(parameter) for parameter in command.params if parameter.param_type_name == "argument"]
    yield from ["```text", " ".join([path, "[OPTIONS]", *places]), "```", "", help_as_markdown(command.help), ""]
    yield from _parameters(command)


def _parameters(command: Any) -> Iterator[str]:
    shown = [p for p in command.params if p.name != "help" and not getattr(p, "hidden", False)]
    if not shown:
        return
    yield from ["| argument or option | meaning |", "|---|---|"]
    for parameter in shown:
        text = " ".join(help_as_markdown(getattr(parameter, "help", None)).split()).replace("|", "\\|")
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
