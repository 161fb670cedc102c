"""The test-suite runs against any S3 server that HANGARLAKE_TEST_S3_URL names, in a folder of its own, and tidies up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hangarlake.storage import open_store
from hangarlake.testing.servers import MotoServer

ROOT = Path(__file__).parents[2]
SOME = (
    "tests/storage/test_s3.py::test_both_engines_see_the_same_objects",
    "tests/storage/test_s3.py::test_the_root_of_a_bucket_is_a_store_too",
    "tests/storage/test_s3.py::TestObstore::test_put_replaces",
)


class _Recording(MotoServer):
    """Moto, and the paths of all requests."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []

    def _answer(self, environment: dict[str, Any], start: Any) -> Iterable[bytes]:
        self.paths.append(environment["PATH_INFO"] + "?" + environment["QUERY_STRING"])
        return super()._answer(environment, start)


@pytest.fixture
def somewhere() -> Iterator[_Recording]:
    with _Recording() as server:
        yield server


def run(*tests: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run tests in a process of their own, which knows a server by the environment alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    return subprocess.run(command, cwd=ROOT, env=kept | environment, capture_output=True, text=True, check=False)


def test_the_tests_of_s3_use_the_server_that_is_named_and_leave_nothing(somewhere: _Recording) -> None:
    somewhere.create_bucket("mine-for-tests")
    somewhere.paths.clear()
    done = run(
        *SOME,
        HANGARLAKE_TEST_S3_URL="s3://mine-for-tests/some/where",
        AWS_ENDPOINT_URL=somewhere.endpoint,
        AWS_ACCESS_KEY_ID=somewhere.key,
        AWS_SECRET_ACCESS_KEY=somewhere.secret,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b2 passed, 2 skipped\b", done.stdout), done.stdout
    assert len(somewhere.paths) > 10
    for path in somewhere.paths:
        assert re.match(r"/mine-for-tests(/some/where/run-|/?\?.*(prefix=some(/|%2F)where(/|%2F)run-|delete))", path), (
            path
        )
    assert list(open_store("s3://mine-for-tests", somewhere.storage_options).list("")) == []


def test_what_is_missing_is_said() -> None:
    done = run(SOME[0], HANGARLAKE_TEST_S3_URL="s3://mine-for-tests/some/where")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in done.stdout + done.stderr
