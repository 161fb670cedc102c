"""What was written wrongly is found, though every object hashes to its name: trees, catalogs, refs and digests that lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import hangarlake as hl
from hangarlake.chunks import zstd
from hangarlake.chunks.uploader import ChunkUploader
from hangarlake.publish import Draft, publish
from hangarlake.records.canonical import canonical_json
from hangarlake.records.catalog import catalog_key
from hangarlake.records.children import Children
from hangarlake.records.entries import Entries
from hangarlake.records.keys import encode_keys
from hangarlake.records.movements import Movement, encode_movement, movement_key
from hangarlake.records.node import Inner, Leaf, NodeRef
from hangarlake.records.nodes import StagedNodes
from hangarlake.records.tree import build, iter_leaves
from hangarlake.storage import MemoryStore
from tests.upkeep.worlds import noise

Change = Callable[[Entries], Entries]


def new_repository() -> hl.Repository:
    repo = hl.Repository.create(MemoryStore())
    with repo.checkout("main", write=True, staging="memory") as w:
        w.add_ndarray_column("rows", (6,), "u1").extend(range(500), noise(1, 500, 6))
        w.add_ndarray_column("few", (6,), "u1").extend(range(3), noise(2, 3, 6))
        w.add_str_column("text").extend([f"k{i:03d}" for i in range(300)], [f"näme {i}" for i in range(300)])
        w.add_ndarray_column("ragged", (9,), "u1", variable_shape=True).extend(
            range(300), [noise(i, 1 + i % 7) for i in range(300)]
        )
        w.add_ndarray_column("large", (8, 10), "u1", encoding={"chunk_shape": (3, 4)}).extend(
            range(9), noise(3, 9, 8, 10)
        )
        w.create_array("array", shape=(300,), dtype="u1", chunks=(1,))[...] = np.arange(300) % 255 + 1
        w.commit("Rightly")
    return repo


def entries_of(repo: hl.Repository, name: str) -> Entries:
    session = repo._session
    root = session.snapshot("main")[0].catalog.nodes[name].root
    return Entries.concat([leaf.entries for leaf in iter_leaves(root, session.nodes)])


def commit_root(repo: hl.Repository, name: str, root: NodeRef | None, staged: StagedNodes) -> str:
    """Commit a tree as it is, and return the key of the object that holds its root (or the first object above it)."""
    session = repo._session
    snapshot, resolved = session.snapshot("main")
    assert isinstance(resolved.source, Movement)
    nodes = dict(snapshot.catalog.nodes)
    nodes[name] = replace(nodes[name], root=root)  # type: ignore[type-var]
    draft = Draft([snapshot.commit], snapshot.catalog.with_nodes(nodes), [{}], "Wrongly", session.author)
    done = publish(session, "main", resolved.source, draft, staged, ChunkUploader(session.store))
    placed = done.snapshot.catalog.nodes[name].root
    assert placed is not None
    return placed.key if placed.pack is not None else catalog_key(done.snapshot.catalog.id)


def forge(repo: hl.Repository, name: str, change: Change) -> str:
    """Commit a tree of other entries, with digests and boundaries that are right for them."""
    staged = StagedNodes(repo._session.nodes)
    return commit_root(repo, name, build(change(entries_of(repo, name)), staged), staged)


def with_value(entries: Entries, i: int, field: str, value: Any) -> Entries:
    array = getattr(entries, field).copy()
    array[i] = value
    return replace(entries, **{field: array})


def with_row(entries: Entries, i: int, field: str, value: Any) -> Entries:
    """Change the row of the chunk table that entry `i` lies in."""
    array = getattr(entries.table, field).copy()
    array[int(entries.rows[i])] = value
    return replace(entries, table=replace(entries.table, **{field: array}))


def only_problem(repo: hl.Repository, level: Any = "full") -> hl.Problem:
    # With caches of its own: what a reader finds there is not what is in the bucket.
    report = hl.Repository.open(repo._session.store).verify(level=level)
    assert len(report.problems) == 1, report.problems
    return report.problems[0]


@pytest.mark.parametrize(
    ("name", "position", "key"),
    [("rows", 300, "300"), ("few", 1, "1"), ("text", 299, "'k299'"), ("ragged", 150, "150"), ("large", 8, "8")],
)
def test_a_value_digest_that_lies(name: str, position: int, key: str) -> None:
    repo = new_repository()
    holder = forge(repo, name, lambda entries: with_value(entries, position, "digests", np.arange(20)))
    assert hl.Repository.open(repo._session.store).verify(level="records").ok
    problem = only_problem(repo)
    assert (problem.object, problem.kind) == (holder, "mismatch")
    assert bytes(range(20)).hex() in problem.detail
    assert problem.affects == (f"{name}[{key}] in commit {repo.resolve('main').id[:12]}",)


def test_two_values_that_changed_places() -> None:
    repo = new_repository()

    def swap(entries: Entries) -> Entries:
        order = np.arange(len(entries))
        order[[3, 4]] = 4, 3
        return replace(entries, digests=entries.digests[order])

    holder = forge(repo, "rows", swap)
    with repo.checkout("main") as co:  # reading one sample does not compute its digest
        assert (co["rows", 3] == noise(1, 500, 6)[3]).all()
    problem = only_problem(repo)
    assert (problem.object, problem.kind) == (holder, "mismatch")
    assert problem.affects == (f"rows[3], rows[4] in commit {repo.resolve('main').id[:12]}",)


LIES: dict[str, tuple[str, Change, str, str]] = {
    "row beyond the chunk": ("rows", lambda e: with_value(e, 7, "index", 501), "points outside", "records"),
    "run beyond the chunk": ("text", lambda e: with_value(e, 7, "index", 1 << 63), "points outside", "records"),
    "shape beyond the schema": (
        "ragged",
        lambda e: with_value(e, 7, "shapes", 10),
        "beyond that of the schema",
        "records",
    ),
    "array chunk of another digest": (
        "array",
        lambda e: with_value(e, 7, "digests", 1),
        "not that of its bytes",
        "records",
    ),
    "string keys cut short": (
        "text",
        lambda e: replace(e, keys=np.array([b"\x20" + b"\xff%03d" % i for i in range(len(e))])),
        "a key that is none",
        "records",
    ),
    "keys of nested samples": (
        "text",
        lambda e: replace(e, keys=encode_keys([("s", i) for i in range(len(e))])),
        "nested samples in a flat column",
        "records",
    ),
    "grid keys": ("array", lambda e: replace(e, keys=encode_keys(range(len(e)))), "a key that is none", "records"),
    "rank of shapes": (
        "rows",
        lambda e: replace(e, shapes=np.ones((len(e), 1), np.uint64)),
        "shapes of 1 dimensions",
        "records",
    ),
    "rows of varying samples": (
        "ragged",
        lambda e: replace(
            e, table=replace(e.table, encodings=tuple(t.replace('"run"', '"rows"') for t in e.table.encodings))
        ),
        "in rows",
        "records",
    ),
    "an unknown layout": (
        "rows",
        lambda e: replace(
            e, table=replace(e.table, encodings=tuple(t.replace('"rows"', '"spiral"') for t in e.table.encodings))
        ),
        "spiral",
        "records",
    ),
    "items that are not there": ("few", lambda e: with_row(e, 0, "items", 4), "does not decode", "full"),
    "more items than memory": ("few", lambda e: with_row(e, 0, "items", 1 << 60), "does not decode", "full"),
    "another place in the pack": (
        "few",
        lambda e: with_row(e, 0, "offset" + "s", 1),
        "whole and has no such chunk",
        "full",
    ),
    "beyond the pack": (
        "few",
        lambda e: with_row(e, 0, "offset" + "s", 1 << 40),
        "whole and has no such chunk",
        "full",
    ),
    "a codec that is not there": (
        "few",
        lambda e: replace(
            e, table=replace(e.table, encodings=tuple(t.replace('"zstd"', '"nosuch"') for t in e.table.encodings))
        ),
        "nosuch",
        "full",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_entries_that_lie(lie: str) -> None:
    name, change, words, level = LIES[lie]
    repo = new_repository()
    holder = forge(repo, name, change)
    problem = only_problem(repo, level)
    if lie not in ("rank of shapes", "string keys cut short"):  # (those two are spread over leaves in one pack)
        assert problem.object == holder
    assert problem.kind == ("unsupported" if lie in ("an unknown layout", "a codec that is not there") else "mismatch")
    assert words in problem.detail
    assert problem.affects
    assert all(line.startswith(f"{name}[") for line in problem.affects)


def cut(entries: Entries, *ends: int) -> list[Entries]:
    starts = [0, *ends]
    return [entries.take(slice(a, b)).compact() for a, b in zip(starts, [*ends, len(entries)], strict=True)]


def above(leaves: list[Entries], staged: StagedNodes, *, lasts: list[bytes] | None = None) -> NodeRef:
    """Put leaves under one root."""
    refs = [staged.add_node(Leaf.of(leaf)) for leaf in leaves]
    keys = lasts or [bytes(leaf.keys[-1]) for leaf in leaves]
    return staged.add_node(Inner.of(1, Children.of(list(zip(keys, refs, strict=True)), 16)))


def test_nodes_that_end_where_the_rule_does_not_say() -> None:
    repo = new_repository()
    staged = StagedNodes(repo._session.nodes)
    holder = commit_root(repo, "rows", above(cut(entries_of(repo, "rows"), 100, 200), staged), staged)
    with repo.checkout("main") as co:
        assert len(co["rows"].batch(range(500))) == 500  # which a reader does not mind
    problem = only_problem(repo, "records")
    assert (problem.object, problem.kind) == (holder, "mismatch")
    assert "rule of boundaries" in problem.detail
    assert problem.affects


def test_a_root_with_one_child() -> None:
    repo = new_repository()
    staged = StagedNodes(repo._session.nodes)
    holder = commit_root(repo, "few", above([entries_of(repo, "few").compact()], staged), staged)
    problem = only_problem(repo, "records")
    assert (problem.object, problem.kind) == (holder, "mismatch")
    assert "one child" in problem.detail


def test_keys_that_are_not_in_order_and_neighbours_that_overlap() -> None:
    repo = new_repository()
    staged = StagedNodes(repo._session.nodes)
    entries = entries_of(repo, "few")
    commit_root(repo, "few", staged.add_node(Leaf.of(entries.take(np.array([1, 0, 2])).compact())), staged)
    assert "not in order" in only_problem(repo, "records").detail

    repo = new_repository()
    staged = StagedNodes(repo._session.nodes)
    leaves = [leaf.entries for leaf in iter_leaves(repo.checkout("main").column_node("rows").root, repo._session.nodes)]
    half = len(leaves[0]) // 2
    commit_root(repo, "rows", above([leaves[0].take(slice(0, half)).compact(), leaves[0]], staged), staged)
    report = hl.Repository.open(repo._session.store).verify(level="records")
    assert [problem.kind for problem in report.problems] == ["mismatch"]
    assert report.problems[0].affects


def test_a_child_under_a_key_that_is_not_its_last_one() -> None:
    repo = new_repository()
    staged = StagedNodes(repo._session.nodes)
    leaves = [leaf.entries for leaf in iter_leaves(repo.checkout("main").column_node("rows").root, repo._session.nodes)]
    lasts = [bytes(leaf.keys[-1]) for leaf in leaves]
    lasts[0] = bytes(leaves[0].keys[-2])
    holder = commit_root(repo, "rows", above(leaves, staged, lasts=lasts), staged)
    report = hl.Repository.open(repo._session.store).verify(level="records")
    # The leaf lies where the first commit put it, and the root that tells of it in another pack.
    assert not report
    assert any("not the one under which it is listed" in problem.detail for problem in report.problems), report.problems
    assert holder


def test_counts_that_do_not_add_up() -> None:
    repo = new_repository()
    staged = StagedNodes(repo._session.nodes)
    root = repo.checkout("main").column_node("rows").root
    assert root is not None
    inner = repo._session.nodes.get_nodes([root])[0]
    assert isinstance(inner, Inner)
    counts = inner.children.counts.copy()
    counts[0] += 1
    counts[1] -= 1
    holder = commit_root(repo, "rows", staged.add_node(Inner.of(1, replace(inner.children, counts=counts))), staged)
    problem = only_problem(repo, "records")
    assert (problem.object, problem.kind) == (holder, "mismatch")
    assert "what leads to it says" in problem.detail


def test_a_catalog_that_is_right_and_points_to_another_tree() -> None:
    repo = new_repository()
    session = repo._session
    catalog = session.snapshot("main")[0].catalog
    physical = catalog.physical()
    physical["roots"]["rows"] = physical["roots"]["text"]
    key = catalog_key(catalog.id)
    lines = catalog.logical_text.encode() + b"\n" + canonical_json(physical) + b"\n"
    session.store.put(key, zstd.compress(lines, 3, checksum=True))
    problem = only_problem(repo, "records")
    assert (problem.object, problem.kind) == (key, "mismatch")
    assert "which is whole and has no such node" in problem.detail
    assert problem.affects == (f"rows[…] and 499 more in commit {repo.resolve('main').id[:12]}",)


def test_a_movement_that_does_not_say_where_the_branch_stood() -> None:
    repo = new_repository()
    store = repo._session.store
    head = repo._session.refs.head("main")
    assert head is not None
    store.put(movement_key("main", head.seq), encode_movement(replace(head, previous="ab" * 32)))
    problem = only_problem(repo, "refs")
    assert (problem.object, problem.kind) == (movement_key("main", head.seq), "mismatch")


def test_a_copy_of_a_catalog_that_cannot_be_used() -> None:
    repo = new_repository()
    store = repo._session.store
    head = repo._session.refs.head("main")
    assert head is not None
    assert head.physical is not None
    store.put(movement_key("main", head.seq), encode_movement(replace(head, physical={**head.physical, "roots": {}})))
    problem = only_problem(repo, "records")
    assert (problem.object, problem.kind) == (movement_key("main", head.seq), "mismatch")
    assert "copy of a catalog" in problem.detail
