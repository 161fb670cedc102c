"""The store of the page about adding one passes the suite that it recommends, by the code that stands there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.docs.pages import DOCS, blocks_of


def test_the_store_of_the_page_passes_the_suite_as_the_page_runs_it(tmp_path: Path) -> None:
    blocks = [block.text for block in blocks_of((DOCS / "extending/stores.md").read_text("utf-8"))]
    store = next(text for text in blocks if "class DictStore" in text).partition("\nrepo = ")[0]
    suite = next(text for text in blocks if "class TestDictStore" in text)
    (tmp_path / "test_dict_store.py").write_text(f"{store}\n\n{suite}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", "test_dict_store.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
