"""Repositories of earlier versions open for ever, and a second reader finds in them what the first one does."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hangarlake import Repository, RevisionNotFoundError
from tests.golden import make_v1, second_reader
from tests.golden.make_v1 import spell

FOLDER = Path(__file__).parent / "v1"
EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text("utf-8"))
STATES = [(state, state) for state in EXPECTED["states"]]


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A copy that nobody may write to."""
    folder = tmp_path / "repository"
    shutil.copytree(FOLDER / "repository", folder)
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return folder


@pytest.fixture
def repo(golden: Path, tmp_path: Path) -> Repository:
    return Repository.open(golden, cache_dir=tmp_path / "cache")


def as_key(key: Any) -> Any:
    return tuple(key) if isinstance(key, list) else key


def samples_of(state: str) -> dict[str, dict[Any, Any]]:
    """Return what a state holds: column → key → spelt value."""
    pool, columns = EXPECTED["columns"], EXPECTED["states"][state]["columns"]
    return {name: {as_key(key): value for key, value in pool[columns[name]]["samples"]} for name in columns}


def in_order(key: Any) -> Any:
    if isinstance(key, tuple):
        return [in_order(part) for part in key]
    return (0, key, b"") if isinstance(key, int) else (1, 0, key.encode())


def pairs(column: Any) -> list[tuple[Any, Any]]:
    if column.nested:
        return [((sample, sub), column[sample, sub]) for sample in column for sub in column[sample]]
    return list(column.items())


def dtype_of(value: Any) -> str | None:
    return value.dtype.str if isinstance(value, np.ndarray) else None


@pytest.mark.parametrize("state", EXPECTED["states"])
def test_every_value_of_version_1_is_there(repo: Repository, state: str) -> None:
    checkout = repo.checkout(EXPECTED["commits"][state])
    expected = samples_of(state)
    assert sorted(checkout.columns) == sorted(expected)
    assert checkout.attrs == EXPECTED["states"][state]["attrs"]
    for name, samples in expected.items():
        column = checkout[name]
        described = EXPECTED["columns"][EXPECTED["states"][state]["columns"][name]]
        found = pairs(column)
        assert [key for key, _ in found] == sorted(samples, key=in_order), name
        for key, value in found:
            assert spell(value) == samples[key], (name, key)
            assert dtype_of(value) == described["dtype"], (name, key)
        assert (column.kind, column.variable_shape, column.nested) == (
            described["kind"],
            described["variable_shape"],
            described["nested"],
        )
        assert (None if column.shape is None else list(column.shape)) == described["shape"]
        for key in list(samples)[:: max(1, len(samples) // 5)]:
            assert spell(column[key]) == samples[key]


@pytest.mark.parametrize("state", EXPECTED["states"])
def test_a_reader_written_from_the_page_on_the_format_finds_the_same(golden: Path, state: str) -> None:
    attrs, columns = second_reader.Repository(golden).read(EXPECTED["commits"][state])
    expected = samples_of(state)
    assert attrs == EXPECTED["states"][state]["attrs"]
    assert sorted(columns) == sorted(expected)
    for name, (node, found) in columns.items():
        described = EXPECTED["columns"][EXPECTED["states"][state]["columns"][name]]
        assert [key for key, _ in found] == sorted(expected[name], key=in_order)
        assert {key: spell(value) for key, value in found} == expected[name]
        if described["kind"] == "ndarray":
            assert (node["dtype"], node["shape"]) == (described["dtype"], described["shape"])


def test_references_and_history_of_version_1_are_there(repo: Repository, golden: Path) -> None:
    commits = EXPECTED["commits"]
    branches = {name: commits[state] for name, state in EXPECTED["branches"].items()}
    tags = {name: commits[state] for name, state in EXPECTED["tags"].items()}
    assert dict(repo.branches) == branches
    assert dict(repo.tags) == tags
    log = [commit.id for commit in repo.log()]
    assert sorted(log) == sorted(commits[state] for state in EXPECTED["history of main"])
    assert all(log.index(commit.id) < log.index(parent) for commit in repo.log() for parent in commit.parents)
    assert [entry.operation for entry in repo.reflog("gone")] == ["delete", "create"]
    assert [entry.operation for entry in repo.reflog("moved")] == ["reset", "create"]
    assert repo.resolve("gone@{1}").id == commits["first"]
    assert repo.resolve("main^2").id == commits["side"]
    with pytest.raises(RevisionNotFoundError):
        repo.resolve("gone")
    assert str(repo.resolve("side/way").author) == "Grace Hopper <grace@example.org>"
    assert repo.resolve(commits["first"]).message.endswith("with a body, ünïcode included")
    other = second_reader.Repository(golden)
    assert other.branches() == branches
    assert other.tags() == tags
    assert len(other.log_of("gone")) == 2


def test_packs_say_by_themselves_what_they_hold(golden: Path) -> None:
    chunks = 0
    for path in (golden / "packs").glob("*/*"):
        data = path.read_bytes()
        if len(path.name) == 40:
            assert second_reader.b160(data).hex() == path.name
            continue
        assert second_reader.b256(data) == path.name
        for digest, chunk, _, encoding in second_reader.read_pack(data):
            chunks += 1
            assert second_reader.b160(chunk) == digest
            assert encoding["layout"] in ("rows", "run", "grid")
    assert chunks > 100


def test_the_repository_touches_what_it_is_meant_to_touch(golden: Path) -> None:
    reader = second_reader.Repository(golden)
    content, physical = reader.catalog(reader.commit(EXPECTED["commits"]["first"])["catalog"])
    assert content["nodes"]["tall"]["level"] == 2
    assert {"inline", "pack"} <= {kind for root in physical["roots"].values() for kind in root}
    layouts, codecs = set(), set()
    for path in (golden / "packs").glob("*/*"):
        if len(path.name) == 64:
            for _, _, _, encoding in second_reader.read_pack(path.read_bytes()):
                layouts.add(encoding["layout"])
                codecs.add(tuple(codec["name"] for codec in encoding["codecs"]))
    assert layouts == {"rows", "run", "grid"}
    assert codecs == {("bytes",), ("bytes", "zstd"), ("bytes", "gzip"), ("bytes", "blosc")}
    assert any(len(path.name) == 40 for path in (golden / "packs").glob("*/*"))


def test_writing_the_same_again_gives_the_same_ids(tmp_path: Path) -> None:
    # Ids cover values, so a version that computed them otherwise could not share history with this one.
    make_v1.make(tmp_path)
    again = json.loads((tmp_path / "expected.json").read_text("utf-8"))
    assert again["states"] == EXPECTED["states"]
    ours, theirs = (second_reader.Repository(folder / "repository") for folder in (tmp_path, FOLDER))
    for state, commit in EXPECTED["commits"].items():
        assert ours.commit(again["commits"][state])["catalog"] == theirs.commit(commit)["catalog"]


def test_the_golden_repository_is_as_it_was_written() -> None:
    listed = json.loads((FOLDER / "objects.json").read_text("utf-8"))
    found = {
        path.relative_to(FOLDER / "repository").as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (FOLDER / "repository").rglob("*")
        if path.is_file()
    }
    assert found == listed
