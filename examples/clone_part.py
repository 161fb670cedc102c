"""Clone without data, fetch a part, work on it, and push the result back.

The shared repository holds 1,000 pictures. The clone takes the records of all and the data of some.

Run ``python examples/clone_part.py [URL]``; the clone is made in a temporary folder.
"""

from __future__ import annotations

import tempfile

import numpy as np
from place import place

import hangarlake as hl


def main() -> None:
    rng = np.random.default_rng(0)
    with place("pictures") as url, tempfile.TemporaryDirectory(prefix="hangarlake-clone-") as folder:
        shared = hl.Repository.create(url, author="Ada <ada@example.org>")
        with shared.checkout("main", write=True) as w:
            w.add_ndarray_column("pictures", shape=(64, 64, 3), dtype="uint8").extend(
                range(1000), rng.integers(0, 256, (1000, 64, 64, 3)).astype("uint8")
            )
            w.add_ndarray_column("sharpness", shape=(), dtype="float64")
            w.commit("Add a thousand pictures")
        print(f"The shared repository stores {shared.stats().stored_bytes / 1e6:.1f} MB.")

        travelled = hl.Progress()
        mine = hl.Repository.clone(url, f"{folder}/mine", author="Grace <grace@example.org>", progress=travelled)
        print(f"Cloned {len(list(mine.log()))} commits with {travelled.bytes / 1e3:.0f} kB; no picture is here yet.")

        wanted = list(range(100))
        brought = mine.fetch_data(nodes=["pictures"], keys=wanted)
        print(f"Fetched {brought.values} pictures in {brought.chunks} chunks, {brought.bytes / 1e6:.1f} MB.")

        with mine.checkout("main", write=True, read_through=False) as w:  # nothing else may travel
            batch = w["pictures"].batch(wanted).astype("float64")
            w["sharpness"].extend(wanted, np.abs(np.diff(batch, axis=2)).mean(axis=(1, 2, 3)))
            print("Measured them without the network:", w.status().summary())
            w.commit("Measure the sharpness of a hundred pictures")

        with shared.checkout("main", write=True) as w:  # meanwhile, somebody else
            w["sharpness", 999] = np.float64(0)
            w.commit("Mark an unusable picture")
        try:
            mine.push()
        except hl.PushRejectedError:
            print("The push is refused: the shared branch has moved on.")
        mine.pull()
        pushed = mine.push()
        print(f"After a pull, which merged, {pushed.objects} objects with {pushed.bytes / 1e3:.0f} kB were pushed.")

        assert shared.resolve("main") == mine.resolve("main")
        with shared.checkout("main") as co:
            print(f"The shared repository has {len(co['sharpness'])} measurements now.")
        mine.close()
        shared.close()


if __name__ == "__main__":
    main()
