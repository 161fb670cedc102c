"""Docstrings are written for Sphinx, too: turn its roles and literal markers into Markdown when the site is built.

What a docstring calls internal is left out, and a default that is a private constant is shown as its value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import griffe

__all__ = ["Roles", "as_markdown", "is_internal"]

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`(~?)([^`]+)`")
_LITERAL = re.compile(r"^::$\n?|(?<=\S)::$", re.MULTILINE)


class Roles(griffe.Extension):
    """Rewrites the docstrings and the signatures of a package when it has been loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Take one package."""
        for obj in _objects(pkg):
            if obj.docstring is not None and is_internal(obj.docstring.value):
                obj.docstring = None  # so that it is not shown
            elif obj.docstring is not None:
                obj.docstring.value = as_markdown(obj.docstring.value, partial(_path, at=obj))
            if isinstance(obj, griffe.Function):
                _show_defaults(obj)


def as_markdown(docstring: str, path_of: Callable[[str], str | None] = lambda _: None) -> str:
    """Return a docstring with roles as code: ``:meth:`~a.b.C.d``` becomes ```d```, with a link if ``path_of`` knows to what."""

    def code(role: re.Match[str]) -> str:
        text = f"`{role[2].rpartition('.')[2] if role[1] else role[2]}`"
        path = path_of(role[2])
        return f'<autoref identifier="{path}" optional>{text}</autoref>' if path else text

    # As the type of a parameter, with a plain hyphen, it would be taken for a subtraction.
    text = _ROLE.sub(code, docstring).replace("path-like", "path\N{NON-BREAKING HYPHEN}like")
    return _LITERAL.sub(lambda found: "" if found[0].startswith("::\n") else ":", text)


def is_internal(docstring: str) -> bool:
    """Tell whether the first paragraph of a docstring says so."""
    return "(internal)" in docstring.partition("\n\n")[0]


def _objects(obj: griffe.Object) -> Iterator[griffe.Object]:
    yield obj
    for member in obj.members.values():
        if isinstance(member, griffe.Object):
            yield from _objects(member)


def _path(name: str, at: griffe.Object) -> str | None:
    """Return the path of what a role names: a whole path, a name in the scope of ``at``, or a public name."""
    first, dot, rest = name.partition(".")
    if first == at.package.name:
        return name
    try:
        return at.resolve(first) + dot + rest
    except griffe.NameResolutionError:
        return f"{at.package.path}.{name}" if first in at.package.members else None


def _show_defaults(function: griffe.Function) -> None:
    for parameter in function.parameters:
        name = str(parameter.default or "")
        constant = function.module.members.get(name) if re.fullmatch(r"_[A-Z_]+", name) else None
        if isinstance(constant, griffe.Attribute) and constant.value is not None:
            parameter.default = constant.value
