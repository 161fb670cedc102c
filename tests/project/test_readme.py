"""What the README shows works as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hangarlake.cli import main

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HANGARLAKE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HANGARLAKE_AUTHOR", "Ada <ada@example.org>")
    monkeypatch.delenv("HANGARLAKE_REPO", raising=False)


@pytest.mark.parametrize("code", blocks("python"))
def test_the_tour_in_python_runs(code: str) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_tour_on_the_command_line_runs(capsys: pytest.CaptureFixture[str]) -> None:
    tour = next(block for block in blocks("console") if "hangarlake init" in block)
    lines = [line.removeprefix("$ ") for line in tour.splitlines()]
    assert len(lines) >= 10
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for line in lines:
        if line.startswith("hangarlake "):
            assert main(shlex.split(line)[1:]) == 0, (line, capsys.readouterr().err)
        else:
            subprocess.run(line, shell=True, check=True, env=environment)
    assert {path.name for path in Path("out").iterdir()} == {"0001.png"}


def test_the_links_of_the_readme_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", README.read_text("utf-8"))
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_make_targets_that_the_readme_names_exist() -> None:
    named = set(re.findall(r"\bmake ([a-z]+)", README.read_text("utf-8")))
    assert named <= set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
