"""The first five minutes: create, commit, branch, diff, merge, tag.

Run ``python examples/quickstart.py [URL]``.
"""

from __future__ import annotations

import numpy as np
from place import place

import hangarlake as hl


def main() -> None:
    with place("quickstart") as url:
        repo = hl.Repository.create(url, author="Ada <ada@example.org>")
        print(f"A repository with the branch {repo.default_branch}, and nothing in it.")

        rng = np.random.default_rng(0)
        with repo.checkout("main", write=True) as w:
            images = w.add_ndarray_column("images", shape=(28, 28), dtype="uint8")
            labels = w.add_ndarray_column("labels", shape=(), dtype="int64")
            images.extend(range(1000), rng.integers(0, 256, (1000, 28, 28)).astype("uint8"))
            labels.extend(range(1000), np.arange(1000) % 10)
            first = w.commit("Add a thousand images and their labels")
        print(f"Two columns of 1,000 samples are one commit: {first.id[:12]}.")

        repo.create_branch("relabel")
        with repo.checkout("relabel", write=True) as w:
            w["labels", 7] = np.int64(1)
            w.commit("Correct a label")
        print("On a branch, one label was corrected:")
        print(repo.diff("main", "relabel"))

        repo.merge("relabel")
        repo.create_tag("v1", message="Checked by Ada")
        with repo.checkout("v1") as now, repo.checkout(first) as before:
            print(f"Label 7 is {now['labels', 7]} at v1, and still {before['labels', 7]} in the first commit.")
            batch = now["images"].batch([3, 7, 42])
            print(f"A batch has the shape {batch.shape}.")

        print("The history, newest first:")
        for commit in repo.log():
            print(f"  {commit.id[:12]}  {commit.message}")
        repo.close()


if __name__ == "__main__":
    main()
