"""Verifying a repository: references, records, data, and in the end what suffers from what was found."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias, get_args

from hangarlake.errors import CorruptionError, ObjectNotFoundError
from hangarlake.records.canonical import is_id
from hangarlake.records.locations import LOCATIONS, decode_locations
from hangarlake.records.models import Commit
from hangarlake.session import Session
from hangarlake.storage.base import ObjectStore
from hangarlake.upkeep.blame import affected
from hangarlake.upkeep.data import DataChecker
from hangarlake.upkeep.findings import Findings, Told
from hangarlake.upkeep.histories import History, read_commits, walk_commits
from hangarlake.upkeep.ledger import sample_bounds
from hangarlake.upkeep.presence import Presence
from hangarlake.upkeep.references import Stands, check_marker, check_refs
from hangarlake.upkeep.results import Problem, VerifyReport
from hangarlake.upkeep.trees import TreeChecker

__all__ = ["Level", "verify"]

Level: TypeAlias = Literal["refs", "records", "full"]

_RESTORE = "restore it from a clone or a backup"
_KEY = re.compile(r"(?:refs/(?:branches|tags)|commits|catalogs|trees)/[\w.%/-]+")


def verify(
    session: Session,
    rev: str | Commit | None,
    *,
    level: Level,
    sample: float | int | None = None,
    seed: int = 0,
    partial: bool = False,
    told: Told | None = None,
) -> VerifyReport:
    """Check a repository, as :meth:`Repository.verify` describes it.

    Parameters
    ----------
    partial : bool
        Whether the working copy has remotes from which data may not have come.
    told : callable, optional
        Told what is being read, and how many bytes.
    """
    if level not in get_args(Level):
        raise ValueError(f"level is 'refs', 'records' or 'full', not {level!r}")
    sample_bounds(sample)
    if sample is not None and level != "full":
        raise ValueError(
            f"sample chooses chunks, and level {level!r} looks at none; leave it out, or take level='full'"
        )
    findings = Findings(told)
    store = session.store
    commit = None if rev is None else _resolve(session, rev, findings)
    check_marker(store, findings)
    stands = _stands(session, commit, findings, level) if rev is None or commit is not None else Stands()
    named: int | None = None
    if level == "refs":
        history = History(list(read_commits(store, list(stands.tips), findings).values()))
        history.commits.sort(key=lambda each: (each.generation, each.time, each.id))
        packs = TreeChecker(store, findings).packs
        absent = 0
    else:
        history = walk_commits(store, stands.tips, findings)
        if rev is None and store.can_list:
            _check_locations(store, findings)
        if level == "full":
            made_here = stands.made_here if partial or stands.fetched else None
            presence = Presence(store, findings, made_here)
            data = DataChecker(store, findings, presence, sample=sample, seed=seed)
            try:
                trees = TreeChecker(store, findings, data)
                trees.check(history.commits)
                data.run()
                named = None if sample is None else data.named
            finally:
                data.close()
            absent = presence.absent
        else:
            trees = TreeChecker(store, findings)
            trees.check(history.commits)
            absent = 0
        packs = trees.packs
    # What is read again, to tell what suffers, is not counted twice.
    counts = dict(findings.counts)
    if named is not None:
        counts["chunks_total"] = named
    lines = affected(store, findings, packs, history, stands.names) if len(findings) else {}
    problems = tuple(Problem(found.object, found.kind, found.detail, lines[found]) for found in findings.list())
    return VerifyReport(level, None if commit is None else commit.id, problems, counts, absent, sample)


def _resolve(session: Session, rev: str | Commit, findings: Findings) -> Commit | None:
    """Return the commit that is meant; where what leads to it is damaged, that is what was found."""
    try:
        commit_id = session.locate(rev).commit
        return session.graph.commit(commit_id)
    except CorruptionError as error:
        key = _KEY.search(str(error))
        findings.add(key[0] if key else str(rev), "damaged", str(error), affects=[f"the revision {str(rev)!r}"])
        return None


def _stands(session: Session, commit: Commit | None, findings: Findings, level: Level) -> Stands:
    if commit is None:
        return check_refs(session.store, findings, records=level != "refs")
    stands = Stands({commit.id: None}, {commit.id: ["the revision"]})
    if level == "full" and session.store.can_list:
        # What was made here, and what was fetched, stands in the logs; whatever else is wrong with them is not asked.
        logs = check_refs(session.store, Findings(), records=False)
        stands.made_here, stands.fetched = logs.made_here, logs.fetched
    return stands


def _check_locations(store: ObjectStore, findings: Findings) -> None:
    """Check the location segments: they name the places of chunks that were fetched one by one."""
    affects = ["data that was fetched into this clone, which it would fetch again"]
    for info in list(store.list(LOCATIONS)):
        name = info.key.rpartition("/")[2]
        if not is_id(name):
            continue
        try:
            data = store.get(info.key)
        except ObjectNotFoundError:
            continue  # removed just now
        findings.read("trees", len(data))
        findings.count(segments=1)
        try:
            decode_locations(bytes.fromhex(name), data)
        except CorruptionError as error:
            what = f"{error}; {_RESTORE}, or delete it and fetch the data again"
            findings.add(info.key, "damaged", what, affects=affects)
