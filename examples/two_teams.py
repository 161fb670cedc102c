"""Two teams label in parallel; where they disagree, a rule decides, and the history says so.

Each team works on its own branch, in its own thread with its own connection, as if on two machines. They overlap, and disagree about some
digits. The merge lists these, and a nearest-neighbour vote among the labels that both teams agree on resolves them. Needs scikit-learn.

Run ``python examples/two_teams.py [URL]``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from place import place
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

import hangarlake as hl


def label(url: str, branch: str, keys: range, truth: np.ndarray, error_rate: float, seed: int) -> str:
    """Label some images as a team of people does: mostly right."""
    rng = np.random.default_rng(seed)
    given = truth[keys.start : keys.stop].copy()
    slips = rng.random(len(given)) < error_rate
    given[slips] = (given[slips] + rng.integers(1, 10, slips.sum())) % 10
    repo = hl.Repository.open(url, author=f"{branch} <{branch}@example.org>")
    with repo.checkout(branch, write=True, staging="memory") as w:
        w["labels"].extend(keys, given)
        commit = w.commit(f"Label {len(keys)} images")
    repo.close()
    return commit.id


def main() -> None:
    digits = load_digits()
    images, truth = digits.images.astype("uint8"), digits.target.astype("int64")

    with place("teams") as url:
        repo = hl.Repository.create(url, author="Ada <ada@example.org>")
        with repo.checkout("main", write=True) as w:
            w.add_ndarray_column("images", shape=(8, 8), dtype="uint8").extend(range(1000), images[:1000])
            w.add_ndarray_column("labels", shape=(), dtype="int64")
            w.commit("Add a thousand images without labels")
        for team in ("north", "south"):
            repo.create_branch(team)

        print("Two teams label at the same time: north 0 to 599, south 400 to 999.")
        with ThreadPoolExecutor(2) as pool:
            north = pool.submit(label, url, "north", range(600), truth, 0.03, 1)
            south = pool.submit(label, url, "south", range(400, 1000), truth, 0.03, 2)
            north.result(), south.result()

        repo.merge("north")
        try:
            repo.merge("south")
        except hl.MergeConflictError as error:
            conflicts = error.conflicts
        print(f"Of the 200 that both labelled, they disagree about {len(conflicts)}:")
        for conflict in conflicts[:3]:
            print(f"  image {conflict.key}: north says {conflict.ours.value}, south says {conflict.theirs.value}")

        open_keys = {conflict.key for conflict in conflicts}
        with repo.checkout("north") as north_view, repo.checkout("south") as south_view:
            known = {**dict(north_view["labels"].items()), **dict(south_view["labels"].items())}
        agreed = [key for key in known if key not in open_keys]
        votes = KNeighborsClassifier(5).fit(
            images[agreed].reshape(len(agreed), -1), np.array([int(known[key]) for key in agreed])
        )

        def vote(conflict: hl.Conflict) -> np.int64:
            image = repo.checkout("main")["images", conflict.key]
            return np.int64(votes.predict(image.reshape(1, -1))[0])

        merged = repo.merge("south", resolve=vote, message="Merge the labels of both teams, disagreements by vote")
        with repo.checkout("main") as co:
            right = np.mean(co["labels"].batch(range(1000)) == truth[:1000])
        print(f"Resolved by vote in {merged.id[:12]}, which has {len(merged.parents)} parents.")
        print(f"1,000 labels, {right:.1%} of them right.")
        repo.close()


if __name__ == "__main__":
    main()
