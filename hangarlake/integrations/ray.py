"""Ray Data: a column as a dataset, read by Ray's workers straight from the bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from hangarlake.errors import SchemaError
from hangarlake.integrations import load
from hangarlake.repository import Repository

__all__ = ["read_column", "read_tasks"]

# Samples that make up one task.
_TASK_BYTES = 64 << 20


def read_column(
    url: str,
    column: str,
    *,
    rev: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    parallelism: int = -1,
) -> Any:
    """Return a column as a ``ray.data.Dataset`` with the columns ``key`` (numbers, or text) and ``value``.

    Parameters
    ----------
    url : str
        Of the repository; workers open it themselves.
    column : str
    rev : revision, optional
        By default the default branch. What is read is the commit that it means now.
    storage_options : mapping, optional
        As fsspec takes them. They travel to the workers.
    parallelism : int
        How many tasks; −1 for about 64 MiB each.

    Raises
    ------
    ImportError
        Without Ray: ``pip install "ray[data]"``.
    SchemaError
        If the column is nested.
    """
    load("ray")
    import ray.data
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    with Repository.open(url, storage_options=storage_options).checkout(rev) as checkout:
        commit = checkout.commit.id
        found = checkout.columns[column]
        if found.nested:
            raise SchemaError(f"column {column!r} is nested, and a dataset has one value in a row; read a flat column")
        count, nbytes = len(found), found.nbytes

    class HangarlakeSource(Datasource):  # type: ignore[misc]  # Ray is not installed where this is checked
        def estimate_inmemory_data_size(self) -> int:
            return int(nbytes)

        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[Any]:
            tasks = []
            for rows, size, read in read_tasks(url, column, commit, storage_options, parallelism, count, nbytes):
                metadata = BlockMetadata(num_rows=rows, size_bytes=size, input_files=None, exec_stats=None)
                tasks.append(ReadTask(read, metadata))
            return tasks

    return ray.data.read_datasource(HangarlakeSource(), override_num_blocks=None if parallelism < 1 else parallelism)


def read_tasks(
    url: str,
    column: str,
    rev: str,
    storage_options: Mapping[str, Any] | None,
    parallelism: int,
    count: int,
    nbytes: int,
) -> list[tuple[int, int, Callable[[], Iterable[dict[str, Any]]]]]:
    """Cut a column into tasks: rows and bytes of each, and what reads it as blocks of NumPy arrays."""
    wanted = parallelism if parallelism > 0 else -(-nbytes // _TASK_BYTES)
    tasks = max(1, min(wanted, count))
    bounds = [count * i // tasks for i in range(tasks + 1)]
    options = dict(storage_options) if storage_options is not None else None
    return [
        (stop - start, nbytes * (stop - start) // max(1, count), _Reader(url, column, rev, options, start, stop))
        for start, stop in pairwise(bounds)
    ]


class _Reader:
    """Reads the samples of one task, by their place in key order."""

    def __init__(self, url: str, column: str, rev: str, options: dict[str, Any] | None, start: int, stop: int) -> None:
        self._parts = url, column, rev, options, start, stop

    def __call__(self) -> Iterable[dict[str, Any]]:
        url, name, rev, options, start, stop = self._parts
        with Repository.open(url, storage_options=options).checkout(rev) as checkout:
            column = checkout.columns[name]
            keys = list(column.keys())[start:stop]
            values = column.batch(keys) if keys else []
        from ray.data.block import BlockAccessor

        yield BlockAccessor.batch_to_block({"key": _key_array(keys), "value": _as_array(values)})


def _key_array(keys: list[Any]) -> Any:
    """Return integer keys as numbers, and any others as text: a column of Ray has one type."""
    return np.array(keys if all(isinstance(key, int) for key in keys) else [str(key) for key in keys])


def _as_array(values: Any) -> Any:
    if isinstance(values, np.ndarray):
        return values
    held = np.empty(len(values), object)
    held[:] = values
    return held
