"""What SECURITY.md, CONTRIBUTING.md and terraform/README.md say is so: links, commands, the tour, the example."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("SECURITY.md", "CONTRIBUTING.md", "terraform/README.md")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


@pytest.mark.parametrize("name", FILES)
def test_links_lead_somewhere(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
        assert "://" in target or (path.parent / target).exists(), target


@pytest.mark.parametrize("name", FILES)
def test_what_looks_like_a_path_of_the_repository_exists(name: str) -> None:
    folders = "tests|docker|docs|terraform|benchmarks|hangarlake"
    named = re.findall(rf"(?<![\w/.:-])((?:{folders})/[\w./-]*)", (ROOT / name).read_text("utf-8"))
    assert [path for path in named if not (ROOT / path.rstrip(".")).exists()] == []


def test_the_tour_visits_every_folder() -> None:
    packages = {path.parent.name for path in (ROOT / "hangarlake").glob("*/__init__.py")}
    assert [name for name in sorted(packages) if f"{name}/`" not in CONTRIBUTING] == []


def test_the_tests_that_are_shown_exist() -> None:
    for path, test in re.findall(r"pytest -n 0 (?:-x )?(tests/[\w./]+)(?:::(\w+))?", CONTRIBUTING):
        assert (ROOT / path).exists()
        assert not test or f"def {test}(" in (ROOT / path).read_text("utf-8")
    for word in re.findall(r"pytest -n 0 -k (\w+)", CONTRIBUTING):
        assert any(
            re.search(rf"def test_\w*{word}", test.read_text("utf-8")) for test in (ROOT / "tests").rglob("test_*.py")
        )


def test_the_variables_are_those_that_the_tests_read() -> None:
    reading = (ROOT / "tests" / "conftest.py").read_text("utf-8") + (ROOT / "tests/deploy/terraform.py").read_text(
        "utf-8"
    )
    for variable in set(re.findall(r"HANGARLAKE_T\w+|AWS_\w+", CONTRIBUTING)):
        assert f'"{variable}"' in reading, variable


def test_the_conformance_suite_runs_as_shown(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", CONTRIBUTING, re.DOTALL)
    (tmp_path / "test_my_store.py").write_text(example, "utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "put or absent",
        "test_my_store.py",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
