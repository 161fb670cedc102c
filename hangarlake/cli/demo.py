"""``hangarlake demo``: the main job on real data, narrated.

1,797 scanned digits go into three columns in two commits; a branch mends some labels; a tag names the result; a merge with one
conflict brings it back; and a second process, which knows nothing but the URL, reads some of it and counts what that costs.
A clone in a second place fetches one image and pushes a change back.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hangarlake.cli.failures import Failure
from hangarlake.cli.output import say, size

if TYPE_CHECKING:
    from hangarlake import Repository

__all__ = ["run"]

_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_BATCH = 64
# Images whose labels the demo gets wrong at first, for the branch to mend.
_MISLABELLED = ("0005", "0333", "1234")
_SHORT = 12


def run(url: str | None, options: dict[str, Any] | None, redact: Callable[[str], str]) -> None:
    """Play the demo at a URL where no repository is yet, or in a temporary folder that is removed afterwards."""
    images, labels = _digits()
    with ExitStack() as stack:
        if url is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="hangarlake-demo-"))
            url = str(Path(folder) / "digits")
        elif url.startswith("memory:"):
            raise Failure(
                "the demo reads from a second process, and memory:// ends with the first; give a folder or a bucket"
            )
        repo = _fill(url, options, images, labels, redact)
        _branch(repo)
        _merge(repo)
        _read_cold(url, options, redact)
        _exchange(url, options, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hangarlake-clone-"))))
    say("")
    say(
        "That is the whole model: samples under keys in columns, commits over all of them, and a bucket is the server.",
        style="bold",
    )


def _fill(
    url: str,
    options: dict[str, Any] | None,
    images: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    redact: Callable[[str], str],
) -> Repository:
    """Create the repository and make two commits."""
    from hangarlake import Repository

    keys = [f"{i:04d}" for i in range(len(images))]
    _step("Create a repository", f"It lives under one URL and needs no server: {redact(url)}")
    repo = Repository.create(url, storage_options=options, author="Demo <demo@hangarlake.dev>")

    _step(
        f"Stage {len(images):,} images and their labels",
        "A column holds samples of one dtype and shape under keys; one key may stand in any column.",
    )
    with repo.checkout("main", write=True) as writer:
        writer.add_ndarray_column("images", shape=images.shape[1:], dtype=images.dtype).extend(keys, images)
        first = labels.copy()
        for key in _MISLABELLED:
            first[int(key)] = (first[int(key)] + 1) % 10
        writer.add_ndarray_column("labels", shape=(), dtype=labels.dtype).extend(keys, first)
        commit = writer.commit("Add the scanned digits and their labels")
    say(f"commit {commit.id[:_SHORT]} on main: images {images.shape[1:]} {images.dtype}, labels () {labels.dtype}")

    _step("Commit once more", "A commit stores what is new, and shares everything else with its parent.")
    with repo.checkout("main", write=True) as writer:
        writer.add_str_column("names").extend(keys, [_NAMES[label] for label in labels])
        commit = writer.commit("Name the digits")
    say(f"commit {commit.id[:_SHORT]} on main: names, text")
    return repo


def _branch(repo: Repository) -> None:
    """Mend labels on a branch, and tag the result."""
    _step(
        "Correct labels on a branch",
        f"{len(_MISLABELLED)} labels are wrong. A branch is one small object; main does not move.",
    )
    repo.create_branch("relabel")
    with repo.checkout("relabel", write=True) as writer:
        names, labels = writer.columns["names"], writer.columns["labels"]
        for key in _MISLABELLED:
            right = np.asarray(_NAMES.index(names[key]), dtype=labels.dtype)
            say(f"labels[{key!r}]: {int(labels[key])} → {int(right)}")
            labels[key] = right
        commit = writer.commit("Correct three labels")
    repo.create_tag("v1", "relabel", message="Digits with corrected labels")
    say(f"commit {commit.id[:_SHORT]} on relabel, tagged v1")
    with repo.checkout("main") as before, repo.checkout("v1") as after:
        key = _MISLABELLED[0]
        say(
            f"the label of {key!r} is still {int(before['labels', key])} on main, and {int(after['labels', key])} at v1"
        )


def _merge(repo: Repository) -> None:
    """Merge the branch into main, where somebody has corrected one of the labels, too: differently."""
    from hangarlake import Conflict, MergeConflictError

    key = _MISLABELLED[0]
    _step(
        "Merge, with one conflict",
        f"Meanwhile somebody guesses the label of {key!r} on main. What one side alone changed merges by itself, without reading data.",
    )
    with repo.checkout("main", write=True) as writer:
        names, labels = writer.columns["names"], writer.columns["labels"]
        right = {each: np.asarray(_NAMES.index(names[each]), dtype=labels.dtype) for each in _MISLABELLED}
        labels[key] = np.asarray((int(right[key]) + 5) % 10, dtype=labels.dtype)
        writer.commit("Guess a label")
    try:
        repo.merge("relabel")
    except MergeConflictError as error:
        for each in error.conflicts:
            sides = {name: side and int(side.value) for name, side in (("main", each.ours), ("relabel", each.theirs))}
            say(
                f"conflict in {each.node}[{each.key!r}]: "
                + ", ".join(f"{value} on {on}" for on, value in sides.items())
            )

    def by_name(conflict: Conflict) -> np.ndarray[Any, Any]:
        return right[conflict.key]

    commit = repo.merge("relabel", message="Merge corrected labels", resolve=by_name)
    say(f"resolved by a function of the conflict, which looks at the names: {key!r} is {int(right[key])}")
    say(
        f"commit {commit.id[:_SHORT]} on main, of two parents; against the first: {repo.diff(commit.parents[0], commit).summary()}"
    )


def _read_cold(url: str, options: dict[str, Any] | None, redact: Callable[[str], str]) -> None:
    """Let a second process read, and tell what it fetched."""
    _step(
        "Read from a second process",
        f"It knows the URL alone. It opens v1 and reads one image, then {_BATCH} from all over the column.",
    )
    request = {
        "url": url,
        "options": options,
        "rev": "v1",
        "column": "images",
        "key": "0042",
        "batch": [f"{i:04d}" for i in range(0, 28 * _BATCH, 28)],
    }
    # By standard input, because everybody on the machine can read arguments.
    command = [sys.executable, "-m", "hangarlake.cli.coldread"]
    done = subprocess.run(
        command, input=json.dumps(request), capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode != 0:
        raise Failure(f"the second process failed: {redact(done.stderr.strip())}")
    answer = json.loads(done.stdout)
    _draw(answer["sample"])
    for what, cost in (("open and one sample", answer["one"]), (f"then {_BATCH} scattered ones", answer["batch"])):
        trips = f"{cost['requests']} requests in {cost['round_trips']} round trips"
        say(f"{what}: {trips}, {size(cost['bytes'])} of {size(answer['stored'])} stored")


def _exchange(url: str, options: dict[str, Any] | None, folder: Path) -> None:
    """Clone to a second place, fetch one image there, and push a change back."""
    from hangarlake import Progress, Repository

    _step(
        "Clone it to a second place",
        "Two places are all it takes to exchange commits. History and records are copied; data stays behind until somebody asks for it.",
    )
    came = Progress()
    author = "Other <other@hangarlake.dev>"
    clone = Repository.clone(url, folder / "clone", source_options=options, author=author, progress=came)
    try:
        stats = clone.stats("v1")
        say(
            f"{came.objects} objects, {size(came.bytes)}: {stats.commits} commits whole, and of "
            f"{stats.samples:,} samples {stats.missing_samples:,} not here"
        )
        brought = clone.fetch_data("v1", nodes=["images"], keys=["0042"])
        with clone.checkout("v1", read_through=False) as view:
            say(f"fetched images['0042'] {view['images', '0042'].shape}, {size(brought.bytes)} with its neighbours")
        with clone.checkout("main", write=True) as writer:
            writer["names", "0042"] = writer["names", "0042"].upper()
            commit = writer.commit("Shout the name of a digit")
        pushed = clone.push()
        say(
            f"commit {commit.id[:_SHORT]} made in the clone, and pushed: {pushed.objects} objects, {size(pushed.bytes)}"
        )
    finally:
        clone.remotes.remove("origin")
        clone.close()


def _digits() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return 1,797 images of 8×8 pixels with 17 shades, and what they show."""
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise Failure("the demo takes its images from scikit-learn: pip install scikit-learn") from error
    digits = datasets.load_digits()
    return digits.images.astype(np.uint8), digits.target.astype(np.int64)


def _step(title: str, model: str) -> None:
    say("")
    say(title, style="bold")
    say(model, style="dim")


def _draw(pixels: Sequence[Sequence[int]]) -> None:
    """Draw an image in characters, so that it is seen to be one."""
    shades = " .:-=+*#%@"
    for row in pixels:
        say("    " + "".join(shades[min(value * len(shades) // 17, len(shades) - 1)] * 2 for value in row))
