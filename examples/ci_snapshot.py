"""A job that imports a folder, commits what is new, and prints the difference; run night after night.

The folder is written by a pipeline, here by a function that changes a few files each time. Needs scikit-learn for its images.

Run ``python examples/ci_snapshot.py [URL]``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from place import place
from sklearn.datasets import load_digits

import hangarlake as hl
from hangarlake.formats import ImportOptions, find_files, import_samples


def produce(folder: Path, night: int) -> None:
    """Write what the pipeline makes: 500 files on the first night, then a few that are new, changed or gone."""
    images = load_digits().images.astype("uint8")
    if night == 1:
        for i in range(500):
            np.save(folder / f"{i:04d}.npy", images[i])
    elif night == 2:
        np.save(folder / "0500.npy", images[500])
        np.save(folder / "0007.npy", 16 - images[7])
        (folder / "0100.npy").unlink()


def snapshot(repo: hl.Repository, folder: Path, column: str, message: str) -> hl.Commit | None:
    """Make the branch hold what a folder holds, by one commit; ``None`` if it does already."""
    with repo.checkout("main", write=True, staging="memory") as w:
        files, _ = find_files([folder])
        import_samples(w, files, column, ImportOptions(create=True))
        present = {path.stem for path in folder.iterdir()}
        for key in [key for key in w[column] if key not in present]:
            del w[column, key]
        if not w.status():
            return None
        return w.commit(message)


def main() -> int:
    with place("nightly") as url, tempfile.TemporaryDirectory(prefix="hangarlake-output-") as name:
        folder = Path(name)
        repo = hl.Repository.create(url, author="Nightly <ci@example.org>")
        for night in (1, 2, 3):
            produce(folder, night)
            before = repo.resolve("main")
            commit = snapshot(repo, folder, "images", f"Output of night {night}")
            if commit is None:
                print(f"Night {night}: nothing new, no commit.")
                continue
            diff = repo.diff(before, commit)
            print(f"Night {night}: {commit.id[:12]}, {diff.summary()}")
            if night > 1:
                change = diff.columns["images"]
                print("  added", *change.added, "| removed", *change.removed, "| changed", *change.modified)
        stats = repo.stats("main")
        print(f"{stats.commits} commits, {stats.samples} samples, {stats.stored_bytes / 1e3:.1f} kB of data stored.")
        repo.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
