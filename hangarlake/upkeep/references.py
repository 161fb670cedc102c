"""Checking the marker, branch logs and tags: the objects that everything else is reached from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from hangarlake.errors import CorruptionError, ObjectNotFoundError, UnsupportedFormatError
from hangarlake.records.canonical import is_id, quote_name
from hangarlake.records.catalog import Catalog
from hangarlake.records.logsearch import LAST_SEQ
from hangarlake.records.marker import MARKER_KEY, Marker
from hangarlake.records.movements import (
    BRANCHES,
    Movement,
    Tag,
    hint_key,
    movement_key,
    parse_hint,
    parse_movement,
    parse_tag,
    tag_key,
)
from hangarlake.records.refs import Refs
from hangarlake.storage.base import ObjectStore
from hangarlake.storage.executors import map_io
from hangarlake.upkeep.findings import Findings

__all__ = ["Stands", "check_marker", "check_refs"]

_RESTORE = "restore it from a clone or a backup"
_TOGETHER = 256  # movements that are read at once
# Operations by which a commit comes to be in this place with its data: it was made here, or pushed.
_MADE_HERE = frozenset({"commit", "revert", "cherry-pick", "rebase", "push"})


@dataclass(slots=True)
class Stands:
    """What refs stand, or stood, on.

    Attributes
    ----------
    tips : dict of str to (str or None)
        Commits, with the records that came along.
    names : dict of str to list of str
        The branches and tags that stand on a commit now.
    made_here : set of str
        Commits that were made in this place, so that their data is here.
    fetched : bool
        Whether commits came from elsewhere, perhaps without their data.
    """

    tips: dict[str, str | None] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    made_here: set[str] = field(default_factory=set)
    fetched: bool = False

    def take(self, stand: Movement | Tag, name: str | None) -> None:
        """Take in where a ref stands; `name` if it still does."""
        if stand.commit is None:
            return
        self.tips.setdefault(stand.commit, stand.record)
        if name is not None:
            self.names.setdefault(stand.commit, []).append(name)
        if isinstance(stand, Movement):
            commit = stand.to_commit()
            merged = stand.operation == "merge" and commit is not None and len(commit.parents) > 1
            if stand.operation in _MADE_HERE or merged:
                self.made_here.add(stand.commit)
            self.fetched |= stand.operation == "fetch" or stand.message.startswith("cloned from ")


def check_marker(store: ObjectStore, findings: Findings) -> None:
    """Check the marker."""
    everything = ["the whole repository"]
    try:
        data = store.get(MARKER_KEY)
        findings.read("refs", len(data))
        Marker.parse(data)
    except ObjectNotFoundError:
        findings.add(
            MARKER_KEY, "missing", f"there is no marker, so nobody can open this; {_RESTORE}", affects=everything
        )
    except UnsupportedFormatError as error:
        findings.add(MARKER_KEY, "unsupported", str(error), affects=everything)
    except CorruptionError as error:
        findings.add(MARKER_KEY, "damaged", f"{error}; {_RESTORE}", affects=everything)


def check_refs(store: ObjectStore, findings: Findings, *, records: bool) -> Stands:
    """Check every movement of every branch, and every tag.

    Parameters
    ----------
    records : bool
        Whether to look into the copies of catalogs that refs carry, too.
    """
    stands = Stands()
    refs = Refs(store)
    names = refs.names()
    # Before the logs: a hint that is ahead of its log then means that something is lost.
    hints = dict(zip(names, map_io(lambda name: _get(store, hint_key(name)), names), strict=True))
    for name in names:
        _check_branch(store, name, hints[name], findings, stands, records)
    _check_tags(store, refs.tag_names(), findings, stands, records)
    return stands


def _get(store: ObjectStore, key: str) -> bytes | None:
    try:
        return store.get(key)
    except ObjectNotFoundError:
        return None


def _sequence(store: ObjectStore, branch: str) -> list[int]:
    """Return the numbers of the movements that there are."""
    prefix = f"{BRANCHES}{quote_name(branch)}/"
    found = []
    for info in store.list(prefix):
        number = info.key[len(prefix) :].removesuffix(".json")
        if number.isdecimal() and info.key == movement_key(branch, int(number)) and 0 < int(number) <= LAST_SEQ:
            found.append(int(number))
    return found


def _check_branch(
    store: ObjectStore, branch: str, hint: bytes | None, findings: Findings, stands: Stands, records: bool
) -> None:
    present = _sequence(store, branch)
    last = max(present, default=0)
    label = f"branch {branch!r}"
    for gap in _gaps(present):
        what = f"the log of {branch!r} has {last:,} movements, and this one is not there; {_RESTORE}"
        findings.add(movement_key(branch, gap), "missing", what, affects=[label])
    ahead = _ahead(hint)
    if ahead > last:
        what = f"the hint of {branch!r} tells of movement {ahead:,}, and the log ends with {last:,}; {_RESTORE}, or delete the hint"
        findings.add(movement_key(branch, last + 1), "missing", what, affects=[f"{label}: where it stands"])
    before: Movement | None = None
    for start in range(0, len(present), _TOGETHER):
        part = present[start : start + _TOGETHER]
        for seq, data in zip(part, map_io(lambda seq: _get(store, movement_key(branch, seq)), part), strict=True):
            movement = _read_movement(branch, seq, data, findings, newest=seq == last)
            if movement is None:
                continue
            findings.count(movements=1)
            stands.take(movement, f"branch {branch!r}" if seq == last else None)
            follows = before is not None and before.seq == seq - 1
            if (follows and before is not None and movement.previous != before.commit) or (
                seq == 1 and movement.previous is not None
            ):
                what = "it does not say where the branch stood before; whoever wrote it has a fault"
                findings.add(movement_key(branch, seq), "mismatch", what, affects=[f"the reflog of {label}"])
            if records:
                _check_copy(movement, movement_key(branch, seq), label, findings)
            before = movement


def _gaps(present: Iterable[int]) -> list[int]:
    gaps: list[int] = []
    expected = 1
    for seq in present:
        # Of a long gap the first few: a name far away is one object that does not belong there.
        gaps += range(expected, min(seq, expected + 16))
        expected = seq + 1
    return gaps


def _ahead(hint: bytes | None) -> int:
    """Return the movement that a whole hint names; whatever else it may be is no matter, for hints save requests alone."""
    seq = parse_hint(hint)
    if not seq or hint is None:
        return 0
    commit = json.loads(hint).get("commit", "")
    return seq if commit is None or is_id(commit) else 0


def _read_movement(branch: str, seq: int, data: bytes | None, findings: Findings, *, newest: bool) -> Movement | None:
    key = movement_key(branch, seq)
    affects = [f"branch {branch!r}: {'where it stands' if newest else 'its reflog'}"]
    if data is None:
        findings.add(key, "missing", f"the movement is gone since it was listed; {_RESTORE}", affects=affects)
        return None
    findings.read("refs", len(data))
    try:
        return parse_movement(data, branch, seq)
    except UnsupportedFormatError as error:
        findings.add(key, "unsupported", str(error), affects=affects)
    except CorruptionError as error:
        findings.add(key, "damaged", f"{error}; {_RESTORE}", affects=affects)
    return None


def _check_tags(store: ObjectStore, names: list[str], findings: Findings, stands: Stands, records: bool) -> None:
    for name, data in zip(names, map_io(lambda each: _get(store, tag_key(each)), names), strict=True):
        if data is None:
            continue  # it was deleted just now
        findings.read("refs", len(data))
        key, affects = tag_key(name), [f"tag {name!r}"]
        try:
            tag = parse_tag(data, name)
        except UnsupportedFormatError as error:
            findings.add(key, "unsupported", str(error), affects=affects)
            continue
        except CorruptionError as error:
            findings.add(key, "damaged", f"{error}; {_RESTORE}", affects=affects)
            continue
        findings.count(tags=1)
        stands.take(tag, f"tag {name!r}")
        if records:
            _check_copy(tag, key, f"tag {name!r}", findings)


def _check_copy(stand: Movement | Tag, key: str, label: str, findings: Findings) -> None:
    """Check the copy of a catalog: readers use it instead of the object."""
    commit = stand.to_commit()
    if commit is None or stand.catalog is None or stand.physical is None:
        return
    try:
        Catalog.parse(commit.catalog, stand.catalog, stand.physical).decode_inlined()
    except CorruptionError as error:
        findings.add(key, "mismatch", f"the copy of a catalog in it cannot be used: {error}", affects=[label])
