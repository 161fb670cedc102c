"""What a type checker knows of the public interface."""

from __future__ import annotations

from pathlib import Path

import pytest

api = pytest.importorskip("mypy.api")

ROOT = Path(__file__).parents[2]
PROGRAM = """
from typing import assert_type

import hangarlake as hl
from hangarlake import Checkout, Column, Repository, WriteCheckout
from hangarlake.arrays import Array, WritableArray
from hangarlake.columns import WritableColumn


def use(repo: Repository, flag: bool) -> None:
    assert_type(hl.Repository.open("place"), Repository)
    assert_type(repo.checkout(), Checkout)
    assert_type(repo.checkout("main", write=False), Checkout)
    assert_type(repo.checkout("main", write=True), WriteCheckout)
    assert_type(repo.checkout("main", write=True, staging="memory"), WriteCheckout)
    assert_type(repo.checkout(write=flag), Checkout | WriteCheckout)
    assert_type(repo.staged(), hl.StagedCheckout)
    with repo.checkout() as co, repo.checkout(write=True) as w:
        assert_type(co.columns["x"], Column)
        assert_type(co.arrays["a"], Array)
        assert_type(w.columns["x"], WritableColumn)
        assert_type(w.arrays["a"], WritableArray)
        assert_type(w.add_str_column("t"), WritableColumn)
    hl.Repositry  # E: attr-defined
    repo.checkout(write=True, staging="dsik")  # E: call-overload
    co.commit("no")  # E: operator
    co.add_str_column("t")  # E: attr-defined
"""


def test_types_of_the_public_interface(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    expected = {
        (number, line.rpartition("# E: ")[2]) for number, line in enumerate(PROGRAM.splitlines(), 1) if "# E: " in line
    }
    options = ["--strict", "--config-file", str(ROOT / "pyproject.toml"), "--no-pretty", "--cache-dir"]
    out, problem, _ = api.run([*options, str(ROOT / ".mypy_cache"), str(program)])
    assert problem == ""
    found = set()
    for line in out.splitlines():
        place, error, message = line.partition(": error: ")
        if error:
            assert Path(place.rpartition(":")[0]).name == program.name, line
            found.add((int(place.rpartition(":")[2]), message.rpartition("[")[2].rstrip("]")))
    assert found == expected, out
