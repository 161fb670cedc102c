"""Repositories and write checkouts for tests of arrays."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hangarlake import Repository, WriteCheckout

AUTHOR = "Ada <ada@example.org>"


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    """An empty repository in a folder."""
    return Repository.create(tmp_path / "repo", author=AUTHOR, cache_dir=tmp_path / "cache")


@pytest.fixture
def w(repo: Repository) -> Iterator[WriteCheckout]:
    """A write checkout of its default branch."""
    with repo.checkout(write=True) as checkout:
        yield checkout


@pytest.fixture(scope="session")
def fresh_writer(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], WriteCheckout]:
    """Make write checkouts of empty branches, of which any number may be open."""
    folder = tmp_path_factory.mktemp("many")
    repository = Repository.create(folder / "repo", author=AUTHOR, cache_dir=folder / "cache")
    numbers = itertools.count()

    def make() -> WriteCheckout:
        name = f"branch-{next(numbers)}"
        repository.create_branch(name)
        return repository.checkout(name, write=True, staging="memory")

    return make
