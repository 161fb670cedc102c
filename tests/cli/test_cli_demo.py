"""hangarlake demo, in a folder, in a temporary one, and in a bucket."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import hangarlake as hl
from tests.cli.conftest import Run, one_line


def check(out: str) -> None:
    """The tale is complete, and reading a little of it fetched a little of it."""
    assert all(word in out for word in ("1,797 images", "relabel", "v1", "second process", "second place", "pushed"))
    costs = re.findall(r"(\d+) requests? in (\d+) round trips?, ([\d.]+) (\w+) of ([\d.]+) (\w+) stored", out)
    assert len(costs) == 2
    units = {"bytes": 1.0, "kB": 1e3, "MB": 1e6}
    for requests, trips, read, read_unit, stored, stored_unit in costs:
        assert int(trips) <= int(requests)
        assert float(read) * units[read_unit] < float(stored) * units[stored_unit]


def test_the_demo_runs_in_a_folder_and_leaves_a_repository(process: Run) -> None:
    done = process("demo", "digits")
    assert (done.status, done.err) == (0, "")
    check(done.out)
    repo = hl.Repository.open("digits")
    assert set(repo.branches) == {"main", "relabel"}
    assert set(repo.tags) == {"v1"}
    with repo.checkout("v1") as view:
        assert {name: len(column) for name, column in view.columns.items()} == {
            "images": 1797,
            "labels": 1797,
            "names": 1797,
        }
    # The merge with its one conflict left main as the branch is.
    assert len(repo.resolve("main~1").parents) == 2
    assert repo.diff("relabel", "main~1").is_empty
    assert "conflict in labels['0005']" in done.out


def test_the_demo_without_a_url_leaves_nothing(process: Run, tmp_path: Path) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    done = process("demo", TMPDIR=str(folder))
    assert done.status == 0, done.err
    check(done.out)
    assert list(folder.iterdir()) == []
    assert list(Path.cwd().iterdir()) == []


def test_the_demo_tells_the_same_whenever_it_runs(process: Run) -> None:
    def told(name: str) -> str:
        out = process("demo", name).out.replace(name, "URL")
        # Ids follow the time of the commits, and how requests fall together follows the machine.
        return re.sub(r"[0-9a-f]{12}|\d+ requests? in .*", "", out)

    assert told("first-place") == told("other-place")


def test_the_demo_runs_in_a_bucket_with_credentials_of_the_environment(
    process: Run, s3_url: str, s3_options: dict[str, Any]
) -> None:
    client: dict[str, Any] = s3_options.get("client_kwargs", {})
    environment = {
        "AWS_ACCESS_KEY_ID": s3_options["key"],
        "AWS_SECRET_ACCESS_KEY": s3_options["secret"],
        "AWS_ENDPOINT_URL": s3_options.get("endpoint_url") or client["endpoint_url"],
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    done = process("demo", s3_url, **environment)
    assert done.status == 0, done.err
    check(done.out)


def test_the_demo_passes_options_on_without_showing_them(process: Run, s3_url: str, s3_options: dict[str, Any]) -> None:
    done = process("demo", s3_url, HANGARLAKE_OPTIONS=json.dumps(s3_options))
    assert done.status == 0, done.err
    assert s3_options["secret"] not in done.out + done.err


def test_the_demo_does_not_write_into_a_repository_that_is_there(run: Run, repo: Path) -> None:
    one_line(run("demo", str(repo)), 3)


def test_the_demo_refuses_memory_and_says_why(run: Run) -> None:
    assert "second process" in one_line(run("demo", "memory://x"), 3)


def test_without_scikit_learn_the_demo_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    assert "pip install scikit-learn" in one_line(run("demo"), 3)
