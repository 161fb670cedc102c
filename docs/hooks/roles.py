"""Docstrings are written for Sphinx, too: turn its roles and literal markers into Markdown when the site is built."""

from __future__ import annotations

import re
from typing import Any

import griffe

__all__ = ["Roles", "as_markdown"]

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`(~?)([^`]+)`")
_LITERAL = re.compile(r"^::$\n?|(?<=\S)::$", re.MULTILINE)


class Roles(griffe.Extension):
    """Rewrites every docstring that is loaded."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Take one object of the package."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """Return a docstring with roles as code: ``:meth:`~a.b.C.d``` becomes ```d```."""
    text = _ROLE.sub(lambda role: f"`{role[2].rpartition('.')[2] if role[1] else role[2]}`", docstring)
    return _LITERAL.sub(lambda found: "" if found[0].startswith("::\n") else ":", text)
