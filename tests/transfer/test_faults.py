"""Faults at every request of a push, a fetch and a fetch_data: before or after, always sound, and the second attempt succeeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import hangarlake as hl
from hangarlake.storage import MemoryStore
from hangarlake.testing import CountingStore, Fault, FaultyStore
from tests.transfer.places import CONTENT, check_place, contents, copy_of, new_repository, put

KINDS = ["error", "lost-answer", "truncate"]


@dataclass
class Scene:
    """An origin and a clone of it, each with a commit that the other lacks."""

    origin: MemoryStore
    clone: MemoryStore
    cache: Path
    number: int = 0

    def again(self) -> Scene:
        """Return a copy of it all."""
        self.number += 1
        return Scene(copy_of(self.origin), copy_of(self.clone), self.cache.with_name(f"cache-{self.number}"))

    def open(self, clone: object, origin: object) -> hl.Repository:
        repo = hl.Repository.open(clone, cache_dir=self.cache)  # type: ignore[arg-type]
        repo.remotes.add("origin", origin)  # type: ignore[arg-type]
        return repo


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("scene")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HANGARLAKE_CONFIG_DIR", str(folder / "config"))
        patch.setenv("HANGARLAKE_CACHE_DIR", str(folder / "cache"))
        origin, store = MemoryStore(), MemoryStore()
        repo = new_repository(origin, 300)
        clone = hl.Repository.clone(origin, store)
        put(clone, 1, 1)
        clone.create_branch("mine")
        repo.create_branch("theirs")
        put(repo, 2, 2, "theirs")
        put(repo, 3, 3, "theirs")
        repo.create_tag("v1", "theirs")
        repo.close()
        clone.close()
    return Scene(origin, store, folder / "cache-0")


Attempt = Callable[[hl.Repository], object]
ATTEMPTS: dict[str, Attempt] = {
    "push": lambda repo: repo.push(branch="mine"),
    "fetch": lambda repo: repo.fetch(),
    "fetch-data": lambda repo: repo.fetch_data("main", nodes=["images"], keys=range(50, 60)),
    "pull": lambda repo: repo.pull(branch="theirs"),
}


def sent(*stores: CountingStore) -> Counter[str]:
    """Count how often the bytes of each object were written."""
    done = [request for store in stores for request in store.requests if request.op in ("put", "put_new")]
    return Counter(request.key for request in done if request.bytes and request.key.startswith(CONTENT))


MATRIX = [(what, side, kind) for what in sorted(ATTEMPTS) for side in ("remote", "here") for kind in KINDS]


# A pull is a fetch and a movement: one kind of fault tells whether these fit together.
@pytest.mark.parametrize(
    ("what", "side", "kind"), [each for each in MATRIX if each[0] != "pull" or each[1:] == ("here", "lost-answer")]
)
def test_a_fault_at_any_request_does_no_harm(what: str, side: str, kind: str, scene: Scene) -> None:
    attempt = ATTEMPTS[what]
    whole = scene.again()
    requests = CountingStore(whole.origin if side == "remote" else whole.clone)
    repo = whole.open(*((whole.clone, requests) if side == "remote" else (requests, whole.origin)))
    requests.reset()
    attempt(repo)
    repo.close()
    after = (refs_of(whole.origin), refs_of(whole.clone))
    assert requests.requests
    for number in range(len(requests.requests)):
        now = scene.again()
        before = (refs_of(now.origin), refs_of(now.clone))
        here, there = CountingStore(now.clone), CountingStore(now.origin)
        fault = [Fault(kind, after=number)]  # type: ignore[arg-type]
        try:
            repo = now.open(
                FaultyStore(here, fault) if side == "here" else here,
                FaultyStore(there, fault) if side == "remote" else there,
            )
            attempt(repo)
            repo.close()
        except (OSError, hl.HangarlakeError):
            pass
        check_place(now.origin, data=True)
        check_place(now.clone)
        stands = (refs_of(now.origin), refs_of(now.clone))
        for place in (0, 1):
            for name, commit in stands[place].items():
                assert commit in (before[place].get(name), after[place].get(name)), name
        repo = now.open(here, there)
        attempt(repo)
        repo.close()
        assert (refs_of(now.origin), refs_of(now.clone)) == after
        check_place(now.origin, data=True)
        check_place(now.clone)
        # A hint, a movement or a catalog may be tried again; nothing that has size travels twice.
        twice = {key: count for key, count in sent(here, there).items() if count > 1}
        assert {key for key in twice if key.startswith(("packs/", "trees/"))} == set(), (number, twice)
    assert contents(hl.Repository.open(whole.origin)) == contents(hl.Repository.open(now.origin))


def refs_of(store: MemoryStore) -> dict[str, str]:
    from hangarlake.records.refs import Refs

    refs = Refs(store)
    return {**refs.branches(), **{f"tag {name}": commit for name, commit in refs.tags().items()}}


@pytest.mark.parametrize("what", ["push", "fetch"])
def test_a_process_that_dies_at_any_point_is_continued_by_the_next(what: str, scene: Scene) -> None:
    side = "remote" if what == "push" else "here"
    number = 0
    while True:
        now = scene.again()
        here, there = CountingStore(now.clone), CountingStore(now.origin)
        fault = [Fault("crash", after=number)]
        try:
            repo = now.open(
                FaultyStore(here, fault) if side == "here" else here,
                FaultyStore(there, fault) if side == "remote" else there,
            )
            ATTEMPTS[what](repo)
        except OSError:
            survived = False
        else:
            survived = True
        check_place(now.origin, data=True)
        check_place(now.clone)
        repo = now.open(here, there)
        ATTEMPTS[what](repo)
        repo.close()
        check_place(now.origin, data=True)
        check_place(now.clone)
        assert max(sent(here, there).values()) == 1
        if survived:
            break
        number += 1
    assert number > 5
