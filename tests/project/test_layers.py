"""Imports point downwards only, those within functions included: storage < chunks < records < views < … < what people start."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import hangarlake

PACKAGE = Path(hangarlake.__file__).parent

# A unit may import from units of its own level only if they are the same unit or stand in one group of peers; and from any lower level.
LEVELS = {
    "errors": 0,
    "storage": 1,
    "chunks": 2,
    "records": 3,
    "views": 4,
    "transfer": 5,
    "upkeep": 5,
    "formats": 6,
    "integrations": 6,
    "loaders": 6,
    "cli": 8,
    "ui": 8,
}
# The test aids ship with the library and wrap stores; they reach no further down than these.
AIDS = "testing"
MAY_USE_AIDS = {"cli"}
# Packages and modules that are the views: what a person holds.
VIEWS = {"arrays", "columns"}
# Methods of the views that hand over at once to what is built on them (`Repository.push`, `Array.to_dask`); everything else keeps to
# the levels.
FACADE = {
    ("repository", "transfer"),
    ("repository", "upkeep"),
    ("checkout", "transfer"),
    ("arrays", "integrations"),
    ("columns", "integrations"),
}


def unit_of(module: str) -> str:
    """Return the layer of `hangarlake.x.y`; a module beside the packages is a view, as DESIGN says."""
    part = module.split(".")[1] if "." in module else "hangarlake"
    if part in LEVELS or part in (AIDS, "hangarlake"):
        return part
    if part in VIEWS or (PACKAGE / f"{part}.py").is_file():
        return "views"
    raise AssertionError(f"{module} is in no layer: give its package a level in this test")


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(module: str, path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the target of every import of ours, wherever it stands."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "hangarlake":
                    yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            if base == "hangarlake":
                for alias in node.names:
                    is_module = (PACKAGE / alias.name).is_dir() or (PACKAGE / f"{alias.name}.py").is_file()
                    yield node.lineno, f"hangarlake.{alias.name}" if is_module else "hangarlake"
            elif base.startswith("hangarlake."):
                yield node.lineno, base


def is_allowed(module: str, target: str) -> bool:
    own, other = unit_of(module), unit_of(target)
    if own == "hangarlake":
        # The table of contents names what the layers offer, and starts no program.
        return other not in ("cli", "ui", AIDS)
    if own == other or other == "errors":
        return own != "errors" or module == target
    if other == "hangarlake":
        return own in (AIDS, "cli", "ui", "loaders", "integrations", "formats")
    if own == AIDS:
        return other in ("storage", "chunks", "records")
    if other == AIDS:
        return own in MAY_USE_AIDS
    if (module.split(".")[1], other) in FACADE:
        return True
    return LEVELS[other] < LEVELS[own]


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=[module for module, _ in modules()])
def test_imports_point_downwards(module: str, path: Path) -> None:
    upwards = [f"line {line}: {target}" for line, target in imports(module, path) if not is_allowed(module, target)]
    assert upwards == []


def test_the_rule_sees_imports_within_functions_and_relative_ones(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "from ..records import tree\nfrom . import packs\n"
        "def f():\n    import hangarlake.cli\n    from hangarlake import columns, Repository\n"
    )
    assert [target for _, target in imports("hangarlake.chunks.module", path)] == [
        "hangarlake.records",
        "hangarlake.chunks",
        "hangarlake.cli",
        "hangarlake.columns",
        "hangarlake",
    ]
    assert not is_allowed("hangarlake.chunks.module", "hangarlake.records")
    assert is_allowed("hangarlake.records.tree", "hangarlake.chunks")
    assert not is_allowed("hangarlake.storage.base", "hangarlake")
    assert not is_allowed("hangarlake.errors", "hangarlake.storage")
    assert not is_allowed("hangarlake.loaders", "hangarlake.cli")
