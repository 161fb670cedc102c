"""The command line as tests call it: in this process, or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hangarlake.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit status, standard output, standard error."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        assert self.status == 0, self.err
        return json.loads(self.out)


Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of its own, with caches and an identity of its own."""
    for name in ("HANGARLAKE_REPO", "HANGARLAKE_OPTIONS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HANGARLAKE_AUTHOR", "Ada Lovelace <ada@example.org>")
    monkeypatch.setenv("HANGARLAKE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HANGARLAKE_CONFIG_DIR", str(tmp_path / "config"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def call(*args: object) -> Outcome:
        capsys.readouterr()
        status = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return call


@pytest.fixture
def process() -> Run:
    """Run a command in a process of its own."""

    def call(*args: object, **env: str) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "hangarlake.cli", *map(str, args)],
            capture_output=True,
            text=True,
            encoding="utf-8",
            env={**os.environ, **env},
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def repo(run: Run) -> Path:
    """Create a repository that the commands in this folder mean."""
    assert run("init", "repo").status == 0
    return Path("repo")


@pytest.fixture
def images(tmp_path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Write a folder `images` of three small arrays."""
    arrays = {f"{i:02d}": np.full((4, 4), i, np.uint8) for i in range(3)}
    folder = Path("images")
    folder.mkdir()
    for key, array in arrays.items():
        np.save(folder / f"{key}.npy", array)
    return arrays


@pytest.fixture
def committed(run: Run, repo: Path, images: dict[str, np.ndarray[Any, Any]]) -> str:
    """Commit the folder of images into the column `images`; return the commit's id."""
    assert run("import", "images", "--column", "images", "--create").status == 0
    return str(run("commit", "-m", "Add images", "--json").json["id"])


def one_line(outcome: Outcome, status: int) -> str:
    """Return the one line that a failed command said."""
    assert outcome.status == status, (outcome.status, outcome.out, outcome.err)
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("hangarlake: ")
    return lines[0].removeprefix("hangarlake: ")
