"""What the documentation shows works as it stands there."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, EXECUTED, ROOT, blocks_of, matches, needs_of, pages

_SHOWN_ONLY = {"", "text", "mermaid", "toml", "yaml", "json", "ini", "hcl"}


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HANGARLAKE_", "AWS_"))}
    return kept | {
        "AWS_EC2_METADATA_DISABLED": "true",
        "COLUMNS": "110",
        "HANGARLAKE_AUTHOR": "Ada <ada@example.org>",
        "HANGARLAKE_CACHE_DIR": str(folder / "cache"),
        "HANGARLAKE_CONFIG_DIR": str(folder / "config"),
        "NO_COLOR": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONUTF8": "1",
    }


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_the_code_of_a_page_runs_and_prints_what_is_shown(page: Path, tmp_path: Path, request) -> None:
    environment = _environment(tmp_path)
    for need in needs_of(page.read_text("utf-8")):
        kind, *buckets = need.split()
        if kind == "s3":
            server = request.getfixturevalue("moto_server")
            for bucket in buckets:
                server.create_bucket(bucket)
            environment |= {
                "AWS_ACCESS_KEY_ID": server.key,
                "AWS_SECRET_ACCESS_KEY": server.secret,
                "AWS_ENDPOINT_URL": server.endpoint,
                "AWS_REGION": "us-east-1",
            }
        elif importlib.util.find_spec(kind) is None:
            pytest.skip(f"the page needs {kind}, which is not installed")
    folder = tmp_path / "work"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.docs.runner", str(page)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_blocks_are_executed_unless_a_page_says_why_not() -> None:
    for page in pages():
        for block in blocks_of(page.read_text("utf-8")):
            assert block.language in {*EXECUTED, *_SHOWN_ONLY}, f"{page}:{block.line}: {block.language!r}"
            assert block.skipped is None or len(block.skipped) > 10, f"{page}:{block.line}: give a reason"


def test_every_guide_and_the_tutorial_have_code() -> None:
    written = {DOCS / "tutorial.md", *(DOCS / "guides").glob("*.md"), *(DOCS / "from").glob("*.md")}
    assert written <= set(pages())


def test_shown_output_stands_for_what_differs_from_run_to_run() -> None:
    assert matches("[main 0123456789ab] Add\n", "[main ba9876543210] Add\n")
    assert matches("a\n…\nz\n", "a\nb\nc\nz\n")
    assert matches("took … s", "took 0.3 s\n")
    assert not matches("a\nz\n", "a\nb\nz\n")
    assert not matches("3 samples", "4 samples\n")
