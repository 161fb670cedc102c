"""Columns as Dask collections."""

from __future__ import annotations

from pathlib import Path

import pytest

from hangarlake import Repository


def test_a_nested_column_is_a_bag_of_its_sub_samples_in_key_order(tmp_path: Path) -> None:
    pytest.importorskip("dask")
    repo = Repository.create(tmp_path / "repo", author="A <a@example.org>")
    with repo.checkout(write=True, staging="memory") as w:
        column = w.add_str_column("names", nested=True)
        for sample, sub in (("b", 2), ("a", "y"), ("a", "x"), ("b", 1)):
            column[sample, sub] = f"{sample}{sub}"
        w.commit("data")
    with repo.checkout() as view:
        bag = view.columns["names"].to_dask(batch=3)
        assert bag.npartitions == 2
        assert bag.compute(scheduler="synchronous") == ["ax", "ay", "b1", "b2"]
