"""Commit records: their bytes, their ids, their keys.

Parsing is on the hot path of every walk through history, so it is plain checks over parsed JSON and not a pydantic
model: several times faster, and no less strict.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from hangarlake.errors import CorruptionError, UnsupportedFormatError
from hangarlake.records.canonical import (
    canonical_json,
    digest,
    format_time,
    is_id,
    object_key,
    parse_json_object,
    parse_time,
)
from hangarlake.records.models import Author, Commit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

__all__ = ["COMMIT_LIMIT", "commit_key", "encode_commit", "next_generation", "parse_commit", "read_commit"]

#: The longest commit record that is read or written, in bytes.
COMMIT_LIMIT = 4 * 2**20
_MAX_GENERATION = 2**63 - 1  # what the local index can keep


def commit_key(commit_id: str) -> str:
    """Return the key of a commit's object. Raises like :func:`~hangarlake.records.canonical.object_key`."""
    return object_key("commits", commit_id, ".json")


def next_generation(parents: Iterable[Commit]) -> int:
    """Return the generation number of a commit with these parents."""
    return 1 + max((parent.generation for parent in parents), default=-1)


def encode_commit(
    *,
    catalog: str,
    parents: Sequence[str],
    generation: int,
    author: Author,
    message: str,
    time: datetime,
    renames: Sequence[Mapping[str, str]] | None = None,
) -> tuple[str, bytes]:
    """Return the id and the record (canonical JSON) of a commit.

    Parameters
    ----------
    generation : int
        :func:`next_generation` of the parents.
    renames : sequence of mappings, optional
        One for each parent: old name → new name. None means that nothing was renamed.

    Raises
    ------
    ValueError
        If a part is not what it should be.
    """
    renames = [{} for _ in parents] if renames is None else [dict(each) for each in renames]
    obj: dict[str, Any] = {
        "author": {"email": author.email, "name": author.name},
        "catalog": catalog,
        "format": 1,
        "generation": generation,
        "message": message,
        "parents": list(parents),
        "renames": renames,
        "time": format_time(time),
    }
    data = canonical_json(obj)
    if len(data) > COMMIT_LIMIT:
        raise ValueError(
            f"the commit record would be {len(data):,} bytes long ({COMMIT_LIMIT:,} at most); shorten its message"
        )
    commit_id = digest(data)
    try:
        _to_commit(commit_id, obj)
    except CorruptionError as error:
        # What would be refused on reading must not be written.
        raise ValueError(str(error)) from error
    return commit_id, data


def parse_commit(commit_id: str, data: bytes) -> Commit:
    """Read a commit's record, verifying that it is the one asked for.

    Raises
    ------
    CorruptionError
        If its bytes do not hash to `commit_id` or are not a commit.
    UnsupportedFormatError
        If it is of a later format.
    """
    if digest(data) != commit_id:
        raise CorruptionError(f"commit {commit_id} is damaged: its bytes do not hash to its id")
    return read_commit(commit_id, data)


def read_commit(commit_id: str, data: bytes) -> Commit:
    """Read a commit's record that is known to hash to its id. Raises like :func:`parse_commit`."""
    if len(data) > COMMIT_LIMIT:
        raise CorruptionError(f"commit {commit_id} is {len(data):,} bytes long, more than a commit can be")
    return _to_commit(commit_id, parse_json_object(data, "commit " + commit_id))


def _to_commit(commit_id: str, obj: dict[str, Any]) -> Commit:
    try:
        version, generation, parents = obj["format"], obj["generation"], obj["parents"]
        author, catalog, message = obj["author"], obj["catalog"], obj["message"]
        name, email = author["name"], author["email"]
        renames = obj["renames"]
        time = parse_time(obj["time"])
    except (KeyError, TypeError, ValueError) as error:
        if obj.get("format", 1) != 1:
            raise _later(commit_id, obj["format"]) from error
        raise CorruptionError(f"commit {commit_id} is not a commit: {error!r}") from error
    if version != 1:
        raise _later(commit_id, version)
    if not (
        type(generation) is int
        and type(parents) is list
        and 0 <= generation <= _MAX_GENERATION
        and (generation > 0) == bool(parents)
        and all(map(is_id, parents))
        and (len(parents) < 2 or len(set(parents)) == len(parents))
        and isinstance(name, str)
        and isinstance(email, str)
        and isinstance(message, str)
        and is_id(catalog)
        and isinstance(renames, list)
        and len(renames) == len(parents)
        and all(map(_is_renaming, renames))
    ):
        raise CorruptionError(f"commit {commit_id} is not a commit: a member is malformed")
    return Commit(commit_id, tuple(parents), message, _author(name, email), time, catalog, generation, tuple(renames))


def _is_renaming(value: object) -> bool:
    # Most are empty, and a walk through history looks at one for each parent of each commit.
    return isinstance(value, dict) and (not value or all(isinstance(new, str) for new in value.values()))


@lru_cache(maxsize=1024)
def _author(name: str, email: str) -> Author:
    # A thousand commits by one person share one object.
    return Author(name, email)


def _later(commit_id: str, version: object) -> UnsupportedFormatError:
    return UnsupportedFormatError(
        f"commit {commit_id} has format {version!r}; upgrade with: pip install --upgrade hangarlake"
    )
