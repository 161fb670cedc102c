"""What tests run in processes of their own."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hangarlake import Repository
from hangarlake.columns import stage
from hangarlake.staging import Staging
from tests.columns.values import AUTHOR


def say(line: object) -> None:
    """Tell the test how far it is."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def sample(key: int) -> Any:
    """Return what belongs under a key."""
    return np.full(5, key, np.int32)


def ingest(place: str, cache: str, every: str) -> None:
    """Write keys for ever, flush after every so many, and say so. Folds and moves nodes to the staging file all the time."""
    import hangarlake.working_set as working_set

    stage._FOLD_AT = 17
    working_set._SPILL_BYTES = 1
    w = Repository.open(place, author=AUTHOR, cache_dir=cache).checkout(write=True)
    column = w["x"]
    key = len(column)
    say(f"begin {key}")
    while True:
        for _ in range(int(every)):
            column[key] = sample(key)
            key += 1
        say("flushing")
        w.flush()
        say(f"flushed {key}")


def hold(place: str, cache: str) -> None:
    """Open a writer, and keep it until killed."""
    w = Repository.open(place, author=AUTHOR, cache_dir=cache).checkout(write=True)
    w["x"][1] = sample(1)
    w.flush()
    say("open")
    sys.stdin.read()


def die_after_publishing(place: str, cache: str) -> None:
    """Commit, and die when the commit is visible but still staged here."""
    w = Repository.open(place, author=AUTHOR, cache_dir=cache).checkout(write=True)
    w["x"][1] = sample(1)
    w.flush()
    Staging.clear = lambda self: os._exit(9)  # type: ignore[method-assign]
    w.commit("published")


def commit_many(
    place: str, options: dict[str, Any] | None, cache: str, staging: str, rank: int, count: int
) -> list[str]:
    """Make commits, each of one key of this worker's own; return their ids."""
    repo = Repository.open(place, storage_options=options, author=AUTHOR, cache_dir=cache)
    ids = []
    with repo.checkout(write=True, staging=staging) as w:
        for number in range(count):
            w["x"][f"{rank}/{number}"] = sample(100 * rank + number)
            ids.append(w.commit(f"{rank}/{number}").id)
    repo.close()
    return ids


def commit_same_key(place: str, cache: str, rank: int) -> tuple[str | None, list[tuple[str, Any, str]]]:
    """Commit one key that all workers write, each another value; return the commit's id or the conflicts."""
    from hangarlake import CommitConflictError

    repo = Repository.open(place, author=AUTHOR, cache_dir=cache)
    w = repo.checkout(write=True, staging="memory")
    w["x"]["shared"] = sample(rank)
    w["x"][f"own {rank}"] = sample(rank)
    Path(cache).mkdir(parents=True, exist_ok=True)
    try:
        return w.commit(f"worker {rank}").id, []
    except CommitConflictError as error:
        return None, [(conflict.node, conflict.key, conflict.kind) for conflict in error.conflicts]


def read_samples(checkout: Any, column: Any, repo: Repository, keys: list[int]) -> list[bool]:
    """Read through views that came here in a pickle."""
    other = repo.checkout()["x"]
    return [
        bool((each == sample(key)).all())
        for key in keys
        for each in (checkout["x", key], column[key], column.batch([key])[0], other[key])
    ]


def read_all(pickled: bytes) -> bytes:
    """Read all samples of a repository that came here in a pickle, one behind the other."""
    column = pickle.loads(pickled).checkout()["x"]
    return b"".join(sample.tobytes() for sample in column.values())


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
