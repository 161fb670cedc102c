"""Arrays and groups as text: the hierarchy as a tree, and regions of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hangarlake.cli.output import size

if TYPE_CHECKING:
    from hangarlake.arrays.array import Array
    from hangarlake.checkout import BaseCheckout

__all__ = ["hierarchy_lines", "numbers_text", "region_text"]


def hierarchy_lines(view: BaseCheckout, path: str = "") -> list[str]:
    """Return the hierarchy at a path as the lines of a tree: arrays with data type, shape and size."""
    table = view.node_table
    if path and path not in table and path not in table.children:
        return []
    lines: list[str] = []
    if not path and "/" in view.arrays:
        return [f"/  {_summary(view.arrays['/'])}"]

    def walk(above: str, indent: str) -> None:
        names = sorted(table.children.get(above, ()))
        for name in names:
            below = f"{above}/{name}" if above else name
            last = name == names[-1]
            text = f"{name}  {_summary(view.arrays[below])}" if below in view.arrays else f"{name}/"
            lines.append(f"{indent}{'└── ' if last else '├── '}{text}")
            walk(below, indent + ("    " if last else "│   "))

    walk(path, "")
    if not lines and not path:
        return []
    return [f"{path}/" if path else "/", *lines]


def region_text(region: tuple[slice, ...]) -> str:
    """Write a region as one types it: ``0:4, 8:16``."""
    return ", ".join(f"{part.start}:{part.stop}" for part in region) or "()"


def _summary(array: Array) -> str:
    return f"{array.dtype} ({numbers_text(list(array.shape))})  {size(array.nbytes_stored)}"


def numbers_text(numbers: Any) -> str:
    """Write a shape: its numbers with commas between them, ``·`` for one that is not known."""
    return "" if numbers is None else ", ".join("·" if n is None else str(n) for n in numbers)
