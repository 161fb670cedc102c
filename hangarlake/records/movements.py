"""Movements of branches, tags and hints: their bytes, their keys and their names (docs/format.md §10–12)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Required, TypedDict

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from hangarlake.errors import CorruptionError, UnsupportedFormatError
from hangarlake.records.canonical import digest, format_time, is_id, parse_time, quote_name, seal, unquote_name, unseal
from hangarlake.records.commits import parse_commit
from hangarlake.records.logsearch import LAST_SEQ
from hangarlake.records.models import Author, Commit, RefEntry

__all__ = [
    "BRANCHES",
    "TAGS",
    "Movement",
    "StandFields",
    "Tag",
    "check_branch_name",
    "check_tag_name",
    "encode_hint",
    "encode_movement",
    "encode_tag",
    "hint_key",
    "movement_key",
    "name_in_key",
    "parse_hint",
    "parse_movement",
    "parse_tag",
    "tag_key",
]

BRANCHES = "refs/branches/"
TAGS = "refs/tags/"
_HINT_LIMIT = 4096

# ---- names -----------------------------------------------------------------------------------------------------------


def check_branch_name(name: str) -> str:
    """Return `name` if a branch may be called so: as git's check-ref-format has it, one level allowed.

    Names of remote branches (``origin/main``) are names like others here.

    Raises
    ------
    ValueError
        Naming the rule that is broken.
    """
    return _check_name(name, "branch")


def check_tag_name(name: str) -> str:
    """Return `name` if a tag may be called so; see :func:`check_branch_name`."""
    return _check_name(name, "tag")


def _check_name(name: str, kind: str) -> str:
    broken = _broken_rule(name)
    if broken is not None:
        raise ValueError(f"{str(name)[:80]!r} cannot be the name of a {kind}: {broken}")
    try:
        quote_name(name)
    except ValueError as error:
        raise ValueError(f"cannot be the name of a {kind}: {error}") from error
    return name


def _broken_rule(name: object) -> str | None:
    if not isinstance(name, str):
        return f"a name is a string, not {type(name).__name__}"
    if not name:
        return "it is empty"
    odd = next((char for char in name if char <= " " or char == "\x7f" or char in "~^:?*[\\"), None)
    if odd is not None:
        return f"it contains {odd!r} (no spaces, control characters or ~ ^ : ? * [ \\)"
    parts = name.split("/")
    rules = [
        (".." in name, "it contains '..'"),
        ("@{" in name, "it contains '@{'"),
        (name == "@", "'@' alone means the default branch"),
        (name == "HEAD", "'HEAD' means the default branch"),
        (name.startswith("-"), "it begins with '-'"),
        (name.endswith("."), "it ends with '.'"),
        ("" in parts, "it begins or ends with '/', or contains '//'"),
        (any(part.startswith(".") for part in parts), "a part of it begins with '.'"),
        (any(part.endswith(".lock") for part in parts), "a part of it ends with '.lock'"),
        (is_id(name.lower()), "it looks like a commit id"),
    ]
    return next((rule for broken, rule in rules if broken), None)


def name_in_key(quoted: str) -> str | None:
    """Return the name that a part of a key stands for; None if it is not one that this code would write."""
    try:
        return _check_name(unquote_name(quoted), "branch")
    except ValueError:
        return None


# ---- keys ------------------------------------------------------------------------------------------------------------


def movement_key(branch: str, seq: int) -> str:
    """Return the key of one movement."""
    return f"{BRANCHES}{quote_name(branch)}/{seq:016d}.json"


def hint_key(branch: str) -> str:
    """Return the key of a branch's hint."""
    return f"hints/branches/{quote_name(branch)}.json"


def tag_key(tag: str) -> str:
    """Return the key of a tag."""
    return f"{TAGS}{quote_name(tag)}.json"


# ---- records ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stand:
    """What movements and tags share: where they stand, and copies of what a reader needs next."""

    commit: str | None
    author: Author
    time: datetime
    message: str
    record: str | None
    catalog: str | None
    physical: dict[str, Any] | None
    nodes: dict[str, Any] | None
    write_id: str

    def to_commit(self) -> Commit | None:
        """Return the commit, read from the record inside; None in a tombstone."""
        if self.commit is None or self.record is None:
            return None
        return parse_commit(self.commit, self.record.encode("utf-8"))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Movement(_Stand):
    """One movement of a branch: object ``refs/branches/<branch>/<seq>.json``.

    Attributes
    ----------
    branch : str
    seq : int
        From 1.
    commit : str or None
        None: the branch was deleted.
    previous : str or None
        Where the branch stood before.
    operation : str
    author : Author
    time : datetime
        Aware, UTC.
    message : str
    record : str or None
        The commit's record, which hashes to `commit`.
    catalog, physical : str or None, dict or None
        The logical line and the physical part of its catalog, where small. `catalog` hashes to the commit's catalog id.
    nodes : dict or None
        Copies of tree nodes: ``packs``, ``index``, ``data``.
    write_id : str
        32 random hexadecimal digits: tells a writer its own movement from another's.
    """

    branch: str
    seq: int
    previous: str | None
    operation: str

    @property
    def deleted(self) -> bool:
        """Whether the branch does not exist after this movement."""
        return self.commit is None

    @property
    def entry(self) -> RefEntry:
        """The movement as a reflog shows it."""
        return RefEntry(
            self.seq,
            self.branch,
            self.commit,
            self.previous,
            self.operation,
            self.author,
            self.time,
            self.message,
        )

    def __repr__(self) -> str:
        return repr(self.entry).replace("RefEntry", "Movement", 1)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Tag(_Stand):
    """A tag: object ``refs/tags/<tag>.json``. The other attributes are those of :class:`Movement`."""

    commit: str
    tag: str

    def __repr__(self) -> str:
        return f"<Tag {self.tag} {self.commit[:12]} by {self.author}, {self.time:%Y-%m-%d %H:%M} UTC>"


class StandFields(TypedDict, total=False):
    """What whoever moves a branch or creates a tag gives besides the commit.

    Attributes
    ----------
    author : Author
    message : str
    record : str or bytes or None
        The record of the commit.
    catalog, physical, nodes
        Copies of what readers need next; see :class:`Movement`.
    time : datetime, optional
        Aware; the present by default.
    """

    author: Required[Author]
    message: Required[str]
    record: str | bytes | None
    catalog: str | None
    physical: dict[str, Any] | None
    nodes: dict[str, Any] | None
    time: datetime | None


# ---- validation of what comes from a bucket --------------------------------------------------------------------------

_Id = Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]
_Time = Annotated[datetime, BeforeValidator(parse_time)]


class _AuthorRecord(BaseModel):
    model_config = ConfigDict(strict=True)

    name: str
    email: str

    def to_author(self) -> Author:
        return Author(self.name, self.email)


class _NodesRecord(BaseModel):
    model_config = ConfigDict(strict=True)

    packs: list[_Id]
    index: list[Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=3, max_length=3)]]
    data: str


class _StandRecord(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    author: _AuthorRecord
    catalog: str | None
    commit: _Id | None
    message: str
    nodes: _NodesRecord | None
    physical: dict[str, Any] | None
    record: str | None
    time: _Time
    write_id: Annotated[str, Field(pattern=r"\A[0-9a-f]{32}\z")]

    def common(self) -> dict[str, Any]:
        return {
            "author": self.author.to_author(),
            "catalog": self.catalog,
            "commit": self.commit,
            "message": self.message,
            "nodes": None if self.nodes is None else self.nodes.model_dump(),
            "physical": self.physical,
            "record": self.record,
            "time": self.time,
            "write_id": self.write_id,
        }


class _MovementRecord(_StandRecord):
    branch: str
    operation: Annotated[str, Field(min_length=1)]
    previous: _Id | None
    seq: int


class _TagRecord(_StandRecord):
    commit: _Id
    tag: str


def _unseal(data: bytes, what: str) -> dict[str, Any]:
    obj = unseal(data, what)
    if obj.get("format") != 1:
        raise UnsupportedFormatError(
            f"{what} has format {obj.get('format')!r}; upgrade with: pip install --upgrade hangarlake"
        )
    return obj


def _invalid(what: str, error: ValidationError) -> CorruptionError:
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return CorruptionError(f"{what} is malformed: {place}: {first['msg']}")


def _check_copies(stand: _Stand, what: str) -> None:
    """Check that the record and the catalog inside are those of the commit. A seal tells of damage, not of lies."""
    if (stand.commit is None) != (stand.record is None):
        raise CorruptionError(f"{what} is malformed: a commit and its record come together")
    try:
        commit = stand.to_commit()
    except CorruptionError as error:
        raise CorruptionError(f"{what} is damaged: {error}") from error
    if stand.catalog is not None:
        try:
            fits = commit is not None and digest(stand.catalog.encode("utf-8")) == commit.catalog
        except UnicodeEncodeError:
            fits = False
        if not fits:
            raise CorruptionError(f"{what} is damaged: the catalog inside is not that of its commit")


def parse_movement(data: bytes, branch: str, seq: int) -> Movement:
    """Read and verify a movement that was found under the key of `branch` and `seq`.

    Raises
    ------
    CorruptionError
        If it is damaged, malformed, or belongs elsewhere.
    UnsupportedFormatError
        If it is of a later format.
    """
    what = movement_key(branch, seq)
    obj = _unseal(data, what)
    try:
        record = _MovementRecord.model_validate(obj)
    except ValidationError as error:
        raise _invalid(what, error) from error
    if record.branch != branch or record.seq != seq:
        raise CorruptionError(f"{what} holds movement {record.seq} of branch {record.branch!r}")
    movement = Movement(branch=branch, seq=seq, previous=record.previous, operation=record.operation, **record.common())
    _check_copies(movement, what)
    return movement


def parse_tag(data: bytes, tag: str) -> Tag:
    """Read and verify a tag; raises like :func:`parse_movement`."""
    what = tag_key(tag)
    obj = _unseal(data, what)
    try:
        record = _TagRecord.model_validate(obj)
    except ValidationError as error:
        raise _invalid(what, error) from error
    if record.tag != tag:
        raise CorruptionError(f"{what} holds the tag {record.tag!r}")
    result = Tag(tag=tag, **record.common())
    _check_copies(result, what)
    return result


def _encode_common(stand: _Stand) -> dict[str, Any]:
    return {
        "author": {"email": stand.author.email, "name": stand.author.name},
        "catalog": stand.catalog,
        "commit": stand.commit,
        "format": 1,
        "message": stand.message,
        "nodes": stand.nodes,
        "physical": stand.physical,
        "record": stand.record,
        "time": format_time(stand.time),
        "write_id": stand.write_id,
    }


def encode_movement(movement: Movement) -> bytes:
    """Return the bytes of a movement.

    Raises
    ------
    ValueError
        If it is not one that :func:`parse_movement` would accept.
    """
    data = seal(
        {
            **_encode_common(movement),
            "branch": movement.branch,
            "operation": movement.operation,
            "previous": movement.previous,
            "seq": movement.seq,
        }
    )
    try:
        parse_movement(data, movement.branch, movement.seq)
    except CorruptionError as error:
        # A log is never rewritten: what nobody could read must not get into it.
        raise ValueError(f"cannot write a movement of {movement.branch!r}: {error}") from error
    return data


def encode_tag(tag: Tag) -> bytes:
    """Return the bytes of a tag; raises like :func:`encode_movement`."""
    data = seal({**_encode_common(tag), "tag": tag.tag})
    try:
        parse_tag(data, tag.tag)
    except CorruptionError as error:
        raise ValueError(f"cannot write the tag {tag.tag!r}: {error}") from error
    return data


# ---- hints -----------------------------------------------------------------------------------------------------------


def encode_hint(movement: Movement) -> bytes:
    """Return the bytes of the hint to a movement."""
    return json.dumps({"commit": movement.commit, "seq": movement.seq}, separators=(",", ":")).encode("ascii")


def parse_hint(data: bytes | None) -> int:
    """Return the sequence number that a hint names; 0 if it is missing or damaged, which is no error."""
    if data is None or len(data) > _HINT_LIMIT:
        return 0
    try:
        seq = json.loads(data)["seq"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
    return seq if type(seq) is int and 0 < seq < LAST_SEQ else 0
