"""The table of contents: every public name is there, found where it is defined, and imported only when somebody asks for it."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import hangarlake

# What takes long to import; a program that shows its help has no use for any of it.
HEAVY = ("numpy", "zarr", "numcodecs", "fsspec", "asyncio", "sqlite3")


def modules_after(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has imported after running `code`."""
    program = f"import sys\n{code}\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def names_for_type_checkers() -> dict[str, str]:
    """Return what is imported for type checkers alone: name → module."""
    found = {}
    for node in ast.parse(Path(hangarlake.__file__).read_text("utf-8")).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for each in node.body:
                if isinstance(each, ast.ImportFrom):
                    found |= {alias.name: str(each.module) for alias in each.names}
                elif isinstance(each, ast.Assign):
                    found |= {str(getattr(target, "id", "")): "hangarlake.records.conflicts" for target in each.targets}
    found.pop("Resolution")
    return found


def test_names_for_type_checkers_are_those_found_at_run_time_and_are_public() -> None:
    homes = {name: module for module, names in hangarlake._HOMES.items() for name in names}
    homes |= dict.fromkeys(("OURS", "THEIRS", "REMOVE"), "hangarlake.records.conflicts")
    assert names_for_type_checkers() == homes
    eager = {name for name in vars(hangarlake.errors) if name in hangarlake.errors.__all__}
    assert set(hangarlake.__all__) == {*homes, *eager, "__version__"}
    for name, module in homes.items():
        home = import_module(module)
        expected = getattr(home.Resolution, name) if name.isupper() else getattr(home, name)
        assert getattr(hangarlake, name) is expected


def test_all_names_are_listed_and_others_are_no_attributes() -> None:
    assert set(hangarlake.__all__) <= set(dir(hangarlake))
    namespace: dict[str, object] = {}
    exec("from hangarlake import *", namespace)
    assert set(hangarlake.__all__) <= set(namespace)
    with pytest.raises(AttributeError, match="Repositry"):
        _ = hangarlake.Repositry
    with pytest.raises(ImportError):
        exec("from hangarlake import Repositry")


def test_public_classes_pickle_by_where_they_are_defined() -> None:
    for name in hangarlake.__all__:
        thing = getattr(hangarlake, name)
        assert pickle.loads(pickle.dumps(thing)) is thing or isinstance(thing, str)


@pytest.mark.parametrize(
    "code",
    [
        "import hangarlake",
        "from hangarlake import RevisionNotFoundError",
        "from hangarlake.cli import main; main(['--version'])",
        "from hangarlake.cli import main; main(['--help'])",
        "from hangarlake.cli import main; main(['commit', '--help'])",
    ],
)
def test_what_needs_no_repository_imports_no_views(code: str) -> None:
    imported = modules_after(code)
    assert imported.isdisjoint(HEAVY)
    assert "hangarlake.repository" not in imported


def test_a_repository_is_imported_when_it_is_asked_for() -> None:
    assert {"numpy", "hangarlake.repository"} <= modules_after("import hangarlake; hangarlake.Repository")
