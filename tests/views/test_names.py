"""Names of columns and arrays."""

from __future__ import annotations

from pathlib import Path

import pytest

from hangarlake import Repository, SchemaError


@pytest.mark.parametrize("name", ["c", "a/c", "0", "Ünïcode", "with space", "x.y-z"])
def test_ordinary_names_are_taken(tmp_path: Path, name: str) -> None:
    repo = Repository.create(tmp_path / "repo", author="A <a@example.org>", cache_dir=tmp_path / "cache")
    with repo.checkout(write=True) as w:
        w.add_str_column(name)["k"] = "v"
        w.commit("named")
    assert repo.checkout()[name, "k"] == "v"


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", ".", "a/..", "zarr.json", "a/zarr.json", "__private", "a\0b", "a\n", 5]
)
def test_names_that_would_be_mistaken_for_something_else_are_refused(tmp_path: Path, name: object) -> None:
    repo = Repository.create(tmp_path / "repo", author="A <a@example.org>", cache_dir=tmp_path / "cache")
    with repo.checkout(write=True) as w, pytest.raises(SchemaError):
        w.add_str_column(name)  # type: ignore[arg-type]  # what a person may get wrong
