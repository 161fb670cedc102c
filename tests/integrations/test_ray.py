"""A column as a Ray dataset. Not part of the default run: start it with ``HANGARLAKE_TEST_RAY=1`` where Ray is installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hangarlake import Repository, SchemaError

pytestmark = pytest.mark.skipif("HANGARLAKE_TEST_RAY" not in os.environ, reason="set HANGARLAKE_TEST_RAY=1 (needs Ray)")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("cluster")
def test_a_column_is_read_by_the_workers_whole_and_once(tmp_path: Path) -> None:
    from hangarlake.integrations.ray import read_column

    url = str(tmp_path / "repo")
    images = np.random.default_rng(0).integers(0, 256, (500, 8, 8), np.uint8)
    repo = Repository.create(url, author="A <a@example.org>", cache_dir=tmp_path / "cache")
    with repo.checkout(write=True) as w:
        w.add_ndarray_column("images", (8, 8), "uint8").extend(range(500), images)
        w.add_str_column("names").extend(range(500), [f"name {i}" for i in range(500)])
        w.commit("data")
    found: dict[int, Any] = {
        int(row["key"]): row["value"] for row in read_column(url, "images", parallelism=3).take_all()
    }
    assert sorted(found) == list(range(500))
    assert all(np.array_equal(found[key], images[key]) for key in found)
    names = {int(row["key"]): row["value"] for row in read_column(url, "names").take_all()}
    assert names == {i: f"name {i}" for i in range(500)}


@pytest.mark.usefixtures("cluster")
def test_a_nested_column_is_refused(tmp_path: Path) -> None:
    from hangarlake.integrations.ray import read_column

    url = str(tmp_path / "repo")
    repo = Repository.create(url, author="A <a@example.org>", cache_dir=tmp_path / "cache")
    with repo.checkout(write=True) as w:
        w.add_str_column("names", nested=True)["a", "b"] = "c"
        w.commit("data")
    with pytest.raises(SchemaError, match="nested"):
        read_column(url, "names")
