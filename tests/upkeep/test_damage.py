"""Damage of any object, at any place, is found: the report names the object and what suffers from it, and goes on."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

import hangarlake as hl
from hangarlake.chunks import zstd
from hangarlake.errors import CorruptionError
from hangarlake.records.commits import commit_key
from hangarlake.records.movements import movement_key
from hangarlake.storage import MemoryStore
from tests.upkeep.worlds import copy_of, everything

KINDS = ("hangarlake.json", "refs/branches/", "refs/tags/", "commits/", "catalogs/", "trees/", "packs/", "history/")
LEVEL = {"hangarlake.json": "refs", "refs/branches/": "refs", "refs/tags/": "refs", "packs/": "full"}


def keys_of(kind: str) -> list[str]:
    return [info.key for info in everything().list(kind)]


def damaged(key: str, data: bytes | None) -> tuple[hl.Repository, MemoryStore]:
    """Return a repository that was opened before one of its objects was replaced, or deleted."""
    store = copy_of(everything())
    repo = hl.Repository.open(store)
    if data is None:
        del store._bucket.objects[key]
    else:
        store.put(key, data)
    return repo, store


def content(key: str) -> bytes:
    return everything().get(key)


def same(key: str, data: bytes) -> bool:
    """Tell whether a zstd frame holds the same with other bytes: some bits of its header mean nothing."""
    if not key.startswith(("catalogs/", "history/")):
        return False
    try:
        return zstd.decompress(data, limit=1 << 30) == zstd.decompress(content(key), limit=1 << 30)
    except CorruptionError:
        return False


def verify(key: str, data: bytes | None, level: Any = None) -> hl.VerifyReport:
    kind = next(kind for kind in KINDS if key.startswith(kind))
    repo, store = damaged(key, data)
    before = dict(store._bucket.objects)
    report = repo.verify(level=level or LEVEL.get(kind, "records"))
    assert store._bucket.objects == before
    return report


def named(report: hl.VerifyReport, key: str) -> list[hl.Problem]:
    return [problem for problem in report.problems if problem.object == key]


@pytest.mark.parametrize("kind", KINDS)
def test_one_flipped_bit_anywhere_is_found(kind: str) -> None:
    keys = keys_of(kind)
    rng = random.Random(kind)
    turns = 0
    while turns < 40:
        key = rng.choice(keys)
        data = bytearray(content(key))
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        turns += 1
        if same(key, bytes(data)):
            continue
        report = verify(key, bytes(data))
        assert not report
        problems = named(report, key)
        assert [problem.kind for problem in problems] in (["damaged"], ["mismatch"], ["unsupported"], ["truncated"]), (
            report.problems
        )
        assert all(problem.detail for problem in problems)
        # Nothing else is accused.
        assert {problem.object for problem in report.problems} == {key}, report.problems
        if kind not in ("history/", "trees/", "packs/"):
            assert all(problem.affects for problem in problems)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "hangarlake.json"])
@pytest.mark.parametrize("way", ["gone", "empty", "short", "long"])
def test_objects_that_are_gone_cut_short_or_too_long_are_found(kind: str, way: str) -> None:
    rng = random.Random(f"{kind} {way}")
    keys = keys_of(kind)
    for key in rng.sample(keys, min(4, len(keys))):
        data = content(key)
        new = {"gone": None, "empty": b"", "short": data[: rng.randrange(1, len(data))], "long": data + b"\0"}[way]
        report = verify(key, new)
        newest = key == movement_key(
            "main", max(entry.seq for entry in hl.Repository.open(everything()).reflog("main"))
        )
        if way == "gone" and (kind == "history/" or (kind == "refs/tags/")):
            assert report.ok  # a segment saves requests; a tag may be deleted
            continue
        problems = named(report, key)
        assert problems, (key, report.problems, newest)
        if way == "gone":
            assert [problem.kind for problem in problems] == ["missing"]
        if kind in ("trees/", "packs/") and way in ("gone", "empty"):
            assert problems[0].kind == ("missing" if way == "gone" else "truncated")
            assert all(
                re.search(r"\[.*\] .*in (commit|\d+ commits since) [0-9a-f]{12}", each) or "more" in each
                for each in problems[0].affects
            )


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("hangarlake.json", "refs/tags/", "history/")])
def test_two_objects_that_changed_places_are_found(kind: str) -> None:
    rng = random.Random(kind)
    for _ in range(4):
        one, two = rng.sample(keys_of(kind), 2)
        store = copy_of(everything())
        repo = hl.Repository.open(store)
        objects = store._bucket.objects
        objects[one], objects[two] = objects[two], objects[one]
        report = repo.verify()
        assert {one, two} <= {problem.object for problem in report.problems}


def test_the_marker_that_is_gone_is_found() -> None:
    report = verify("hangarlake.json", None)
    assert [(problem.object, problem.kind) for problem in report.problems] == [("hangarlake.json", "missing")]


def test_hints_are_not_needed_and_damaged_ones_no_problem() -> None:
    for data in (None, b"", b"{", b'{"commit": 3, "seq": 900}'):
        store = copy_of(everything())
        for info in list(store.list("hints/")):
            del store._bucket.objects[info.key]
            if data is not None:
                store.put(info.key, data)
        assert hl.Repository.open(store).verify(level="refs").ok


def test_the_newest_movement_that_is_gone_is_found_by_its_hint() -> None:
    repo = hl.Repository.open(everything())
    last = next(iter(repo.reflog("main"))).seq
    key = movement_key("main", last)
    (problem,) = verify(key, None).problems
    assert (problem.object, problem.kind) == (key, "missing")
    assert problem.affects == ("branch 'main': where it stands",)


@pytest.mark.parametrize("position", range(12))
def test_what_a_damaged_pack_affects_is_what_cannot_be_read(position: int) -> None:
    """The columns and arrays that are named are those that a reader fails on, and no others."""
    keys = keys_of("packs/")
    key = max(keys, key=lambda each: len(content(each)) if len(each) > 60 else 0)
    data = bytearray(content(key))
    data[len(data) * position // 12] ^= 4
    repo, store = damaged(key, bytes(data))
    (problem,) = repo.verify().problems
    assert (problem.object, problem.kind) == (key, "damaged")
    accused = {line.split("[")[0] for line in problem.affects}
    failing = set()
    for rev in [commit.id for commit in repo.log("main")]:
        with hl.Repository.open(store).checkout(rev) as co:
            for name, column in co.columns.items():
                try:
                    list(column.scan())
                except CorruptionError:
                    failing.add(name)
            for name, array in co.arrays.items():
                try:
                    array[...]
                except CorruptionError:
                    failing.add(name)
    assert accused == failing


def test_a_missing_solo_chunk_names_its_sample_and_the_commits_that_hold_it() -> None:
    (key,) = [key for key in keys_of("packs/") if len(key.rpartition("/")[2]) == 40]
    (problem,) = verify(key, None).problems
    repo = hl.Repository.open(everything())
    log = list(repo.log("main"))
    holders = {commit.id for commit in [*log, *repo.log("side")] if "solo" in repo.checkout(commit).columns}
    first = next(commit for commit in log if commit.message == "Add everything")
    assert (problem.object, problem.kind) == (key, "missing")
    # One commit of the side line was left behind by the reset, and its branch log still reaches it.
    assert problem.affects == (f"solo['x'] in {len(holders):,} commits since {first.id[:12]}",)


def test_a_lost_commit_names_the_branches_whose_history_it_breaks() -> None:
    repo = hl.Repository.open(everything())
    key = commit_key(repo.resolve("v1").id)
    (problem,) = verify(key, None).problems
    assert {"branch 'main': its history", "tag 'v1': its history", "branch 'side': its history"} <= set(problem.affects)
    assert any(re.fullmatch(r"\d+ commits that descend from it", line) for line in problem.affects)


def test_a_lost_catalog_names_the_commits() -> None:
    repo = hl.Repository.open(everything())
    commit = repo.resolve("main")
    (problem,) = verify(f"catalogs/{commit.catalog[:2]}/{commit.catalog}", None).problems
    assert problem.kind == "missing"
    assert problem.affects == (f"everything in commit {commit.id[:12]}",)


def test_a_damaged_leaf_names_its_keys() -> None:
    repo = hl.Repository.open(everything())
    with repo.checkout("main") as co:
        root = co.column_node("images").root
        leaf = repo._session.nodes.get_nodes([root])[0].children.ref(0, 0)
        last = repo._session.nodes.get_nodes([leaf])[0].count - 1
    data = bytearray(content(leaf.key))
    data[leaf.offset + 40] ^= 1
    (problem,) = verify(leaf.key, bytes(data)).problems
    assert (problem.object, problem.kind) == (leaf.key, "damaged")
    (line,) = problem.affects
    assert re.fullmatch(rf"images\[… {last}\] and {last} more in (commit|\d+ commits since) [0-9a-f]{{12}}", line)


def test_everything_that_is_wrong_is_found_at_once() -> None:
    store = copy_of(everything())
    repo = hl.Repository.open(store)
    broken = set()
    # (A damaged catalog hides what only it leads to, so none is.)
    for kind in ("refs/branches/side", "commits/", "trees/", "packs/"):
        keys = keys_of(kind)
        for key in (keys[0], keys[-1]):
            data = bytearray(content(key))
            data[len(data) // 2] ^= 1
            store.put(key, bytes(data))
            broken.add(key)
    report = repo.verify()
    found = {problem.object for problem in report.problems}
    assert found <= broken
    assert found >= {key for key in broken if not key.startswith("packs/")}
    assert found & {key for key in broken if key.startswith("packs/")}
    assert all(len(problem.affects) <= 16 for problem in report.problems)


def test_a_damaged_chunk_is_found_by_a_sample_that_looks_at_it_and_by_no_other() -> None:
    (key,) = [key for key in keys_of("packs/") if len(key.rpartition("/")[2]) == 40]
    data = bytearray(content(key))
    data[5] ^= 1
    repo, _ = damaged(key, bytes(data))
    found = [bool(repo.verify(sample=0.3, seed=seed)) for seed in range(12)]
    assert set(found) == {True, False}
    assert not repo.verify(sample=1.0)


def test_a_revision_of_a_damaged_branch_is_reported_and_others_are_sound() -> None:
    repo = hl.Repository.open(everything())
    key = movement_key("main", next(iter(repo.reflog("main"))).seq)
    repo, _ = damaged(key, content(key)[:-3])
    report = repo.verify("main")
    assert [(problem.object, problem.kind) for problem in report.problems] == [(key, "damaged")]
    assert repo.verify("v1").ok
