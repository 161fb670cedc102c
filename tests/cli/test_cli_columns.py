"""hangarlake column."""

from __future__ import annotations

from pathlib import Path

import pytest

import hangarlake as hl
from tests.cli.conftest import Run, one_line


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (
            ["--dtype", "uint8", "--shape", "28,28"],
            {"kind": "ndarray", "dtype": "uint8", "shape": [28, 28], "variable_shape": False},
        ),
        (["--dtype", "int64", "--shape", ""], {"kind": "ndarray", "dtype": "int64", "shape": []}),
        (["--dtype", "float32", "--shape", "*,3", "--variable-shape"], {"shape": [None, 3], "variable_shape": True}),
        (["--kind", "str"], {"kind": "str", "dtype": None, "shape": None}),
        (["--kind", "bytes", "--nested"], {"kind": "bytes", "nested": True}),
        (["--kind", "json"], {"kind": "json"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_columns_of_every_kind_are_added(run: Run, repo: Path, args: list[str], expected: dict[str, object]) -> None:
    assert run("column", "add", "x", *args).status == 0
    assert run("column", "info", "x", "--staged", "--json").json.items() >= expected.items()
    assert run("column", "ls", "--json").json == []
    assert run("commit", "-m", "Add x").status == 0
    assert run("column", "info", "x", "--json").json.items() >= expected.items()
    assert "x" in run("column", "ls").out
    assert run("column", "info", "x").status == 0


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--dtype", "uint8"],
        ["--dtype", "nonsense", "--shape", "1"],
        ["--dtype", "uint8", "--shape", "a"],
        ["--dtype", "uint8", "--shape", "*"],
        ["--kind", "str", "--dtype", "uint8"],
    ],
    ids=" ".join,
)
def test_declarations_that_make_no_sense_are_refused(run: Run, repo: Path, args: list[str]) -> None:
    one_line(run("column", "add", "x", *args), 2)
    assert run("column", "ls", "--staged", "--json").json == []


def test_a_name_that_is_taken_is_refused(run: Run, committed: str) -> None:
    assert "images" in one_line(run("column", "add", "images", "--kind", "str"), 3)


def test_a_column_is_renamed_with_all_its_samples(run: Run, committed: str, repo: Path) -> None:
    assert run("column", "rename", "images", "pictures").status == 0
    assert run("commit", "-m", "Rename").status == 0
    with hl.Repository.open(repo).checkout() as view:
        assert list(view.columns) == ["pictures"]
        assert len(view["pictures"]) == 3


def test_a_column_is_removed_and_earlier_commits_keep_it(run: Run, committed: str) -> None:
    assert run("column", "remove", "images", "--dry-run").status == 0
    assert [c["name"] for c in run("column", "ls", "--staged", "--json").json] == ["images"]
    assert run("column", "remove", "images", "--yes").status == 0
    assert run("commit", "-m", "Remove").status == 0
    assert run("column", "ls", "--json").json == []
    assert [c["name"] for c in run("column", "ls", "--rev", "main~1", "--json").json] == ["images"]


def test_removing_several_columns_removes_none_if_one_is_not_there(run: Run, committed: str) -> None:
    one_line(run("column", "remove", "images", "nosuch", "--yes"), 3)
    assert [c["name"] for c in run("column", "ls", "--staged", "--json").json] == ["images"]
