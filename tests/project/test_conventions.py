"""What the project promises about its own source: sizes, docstrings, the error tree, no printing, no paths of somebody's machine."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

import hangarlake
from hangarlake import errors

PACKAGE = Path(hangarlake.__file__).parent
ROOT = PACKAGE.parent
LONGEST_FILE = 600


def tracked() -> list[Path]:
    """Return the files under version control; outside a checkout, everything that a source distribution has."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
        found = [ROOT / name for name in listed.split("\0") if name]
    else:
        found = [path for folder in ("hangarlake", "tests", "docs", "examples") for path in (ROOT / folder).rglob("*")]
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_is_too_long_to_be_one_thing(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_in_its_docstring_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))


@pytest.mark.parametrize("name", sorted(getattr(hangarlake, "__all__", [])))
def test_every_public_name_has_a_docstring(name: str) -> None:
    thing = getattr(hangarlake, name)
    if isinstance(thing, str):
        return
    assert (thing.__doc__ or "").strip()
    if isinstance(thing, type):
        bare = [
            member
            for member, value in vars(thing).items()
            if not member.startswith("_")
            and (callable(value) or isinstance(value, property))
            and not (value.__doc__ or "").strip()
        ]
        assert bare == []


def drawn_tree() -> dict[str, tuple[str, frozenset[str]]]:
    """Read the tree at the top of errors.py: class → (parent among ours, builtin bases)."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    above = ["HangarlakeError"]
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"(?P<indent>[ │]*)[├└]── (?P<name>\w+)\s+(?:\((?P<bases>[\w, ]+)\))?", line)
        if match is None:
            continue
        depth = len(match["indent"]) // 4
        del above[depth:]
        found[match["name"]] = (above[-1], frozenset(re.findall(r"\w+", match["bases"] or "")))
        above.append(match["name"])
    return found


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    real = {}
    for name, thing in vars(errors).items():
        if (
            isinstance(thing, type)
            and issubclass(thing, errors.HangarlakeError)
            and thing is not errors.HangarlakeError
        ):
            ours = [base.__name__ for base in thing.__bases__ if base.__module__ == errors.__name__]
            builtin = frozenset(base.__name__ for base in thing.__bases__ if base.__module__ == "builtins")
            assert len(ours) == 1, name
            real[name] = (ours[0], builtin)
    assert drawn_tree() == real


def test_every_error_is_exported() -> None:
    public = {
        name
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, errors.HangarlakeError)
    }
    assert public == set(errors.__all__)


def test_the_library_prints_nothing() -> None:
    printing = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        if PACKAGE / "cli" not in path.parents
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printing == []


def test_no_tracked_file_names_a_path_of_somebodys_machine() -> None:
    homes = re.compile(r"(?:^|[^A-Za-z0-9_.:/\-])/(?:root|farm|work|home/[a-z]|Users/[A-Za-z])[/\w]", re.MULTILINE)
    found = []
    for path in tracked():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match[0].strip()}" for match in homes.finditer(text)]
    assert found == []


def test_no_promise_is_left_open_in_the_library() -> None:
    open_ends = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b|raise NotImplemented" r"Error")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in PACKAGE.rglob("*.py")
        for match in open_ends.finditer(path.read_text("utf-8"))
    ]
    assert found == []
