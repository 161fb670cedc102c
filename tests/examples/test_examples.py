"""Every example runs to its end, without warnings, and leaves nothing behind."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hangarlake.storage import open_store
from hangarlake.testing.servers import MotoServer

EXAMPLES = Path(__file__).parents[2] / "examples"

# Of each example: the packages it needs, and something that it is to print.
_EXPECTED = {
    "ci_snapshot": (["sklearn"], "Night 2: … 1 sample added, 1 sample removed, 1 sample modified"),
    "clone_part": ([], "The shared repository has 101 measurements now."),
    "cluster": (["dask", "distributed", "xarray"], "of 4,000 read by the workers"),
    "digits_labels": (["sklearn"], "100.0% of the labels are right"),
    "quickstart": ([], "Label 7 is 1 at v1, and still 7 in the first commit."),
    "two_teams": (["sklearn"], "which has 2 parents"),
    "weather": (["dask", "xarray"], "A correction on a branch changed 2 of 12 chunks"),
}


def _run(name: str, folder: Path, *arguments: str, **variables: str) -> str:
    needed, expected = _EXPECTED[name]
    for package in needed:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"examples/{name}.py needs {package}, which is not installed")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HANGARLAKE_", "AWS_"))}
    temporary = folder / "temporary"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments],
        cwd=folder,
        env={**kept, "TMPDIR": str(temporary), "PYTHONUTF8": "1", **variables},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(".*".join(map(re.escape, expected.split("…"))), done.stdout), done.stdout
    # dask keeps an empty folder for its workers.
    assert [path.name for path in temporary.iterdir() if not path.name.startswith("dask-")] == []
    return done.stdout


# Starting workers takes its time: once is enough, and a bucket is what they are for.
@pytest.mark.parametrize("name", sorted(_EXPECTED.keys() - {"cluster"}))
def test_an_example_runs_and_cleans_up(name: str, tmp_path: Path) -> None:
    assert len(_run(name, tmp_path).splitlines()) < 40


@pytest.mark.parametrize("name", ["clone_part", "cluster"])
def test_an_example_runs_on_a_bucket_and_cleans_up(name: str, tmp_path: Path, moto_server: MotoServer) -> None:
    bucket = f"example-{name.replace('_', '-')}"
    moto_server.create_bucket(bucket)
    _run(
        name,
        tmp_path,
        f"s3://{bucket}/some/place",
        AWS_ACCESS_KEY_ID=moto_server.key,
        AWS_SECRET_ACCESS_KEY=moto_server.secret,
        AWS_ENDPOINT_URL=moto_server.endpoint,
        AWS_REGION="us-east-1",
        AWS_EC2_METADATA_DISABLED="true",
    )
    assert list(open_store(f"s3://{bucket}/some", moto_server.storage_options).list("")) == []


def test_an_example_takes_a_folder_and_leaves_it_empty(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    _run("quickstart", tmp_path, str(tmp_path / "given"))
    assert list((tmp_path / "given").iterdir()) == []


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} - {"place"} == set(_EXPECTED)
