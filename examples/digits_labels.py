"""Real images, labels by a model, corrections on a branch, and a merge.

A model labels 1,797 scanned digits, of which it has seen the first 300. People correct its labels on a branch, while on main somebody
adds which images are for testing. The merge has both. Needs scikit-learn.

Run ``python examples/digits_labels.py [URL]``.
"""

from __future__ import annotations

import numpy as np
from place import place
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

import hangarlake as hl

SEEN = 300


def accuracy(repo: hl.Repository, rev: str, truth: np.ndarray) -> float:
    """Return the share of right labels at a revision."""
    with repo.checkout(rev) as co:
        labels = co["labels"]
        return float(np.mean(labels.batch(list(labels)) == truth))


def main() -> None:
    digits = load_digits()
    images, truth = digits.images.astype("uint8"), digits.target.astype("int64")
    keys = [f"{i:04d}" for i in range(len(images))]
    model = KNeighborsClassifier(3).fit(images[:SEEN].reshape(SEEN, -1), truth[:SEEN])
    guesses = model.predict(images.reshape(len(images), -1)).astype("int64")

    with place("digits") as url:
        repo = hl.Repository.create(url, author="Model <model@example.org>")
        with repo.checkout("main", write=True) as w:
            w.add_ndarray_column("images", shape=(8, 8), dtype="uint8").extend(keys, images)
            w.add_ndarray_column("labels", shape=(), dtype="int64").extend(keys, guesses)
            w.commit("Add scanned digits, labelled by a model that saw 300 of them")
        print(f"{len(keys):,} images; {accuracy(repo, 'main', truth):.1%} of the labels are right.")

        repo.create_branch("corrections")
        with repo.checkout("corrections", write=True) as w:
            wrong = [key for key, guess, right in zip(keys, guesses, truth, strict=True) if guess != right]
            w["labels"].update((key, truth[int(key)]) for key in wrong)
            w.commit(f"Correct {len(wrong)} labels", author="Ada <ada@example.org>")
        print(f"On a branch, {len(wrong)} labels were corrected. main has not moved.")

        with repo.checkout("main", write=True) as w:
            w.add_ndarray_column("is_test", shape=(), dtype="bool").extend(keys, np.arange(len(keys)) >= SEEN)
            w.commit("Say which images are for testing", author="Grace <grace@example.org>")
        print("Meanwhile on main, a column was added.")

        changes = repo.diff(repo.merge_base("main", "corrections"), "corrections").columns["labels"]
        for key in list(changes.modified)[:3]:
            old, new = changes.values(key)
            print(f"  {key}: {old} becomes {new}")
        merged = repo.merge("corrections", message="Merge the corrected labels")
        repo.create_tag("v1")
        print(f"Merged as {merged.id[:12]}: {accuracy(repo, 'v1', truth):.1%} of the labels are right.")

        print(f"Who set the label of {wrong[0]}?")
        for commit in repo.log(node="labels", key=wrong[0]):
            print(f"  {commit.author.name}: {commit.message}")
        repo.close()


if __name__ == "__main__":
    main()
