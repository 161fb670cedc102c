"""The store of the page about adding one passes the suite that it recommends."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from hangarlake.storage import ObjectStore
from hangarlake.testing import StoreConformance
from tests.docs.pages import DOCS, blocks_of

_MODULE = "documented_store"


@pytest.fixture(scope="module", autouse=True)
def page() -> Iterator[ModuleType]:
    """Make a module of what the page defines, so that its classes pickle."""
    text = (DOCS / "extending/stores.md").read_text("utf-8")
    code = next(block.text for block in blocks_of(text) if block.language == "python")
    module = sys.modules[_MODULE] = ModuleType(_MODULE)
    exec(code.partition("\nrepo = ")[0], module.__dict__)
    yield module
    del sys.modules[_MODULE]


class TestStoreOfThePage(StoreConformance):
    spans_processes = False

    @pytest.fixture
    def store(self, page: ModuleType) -> ObjectStore:
        made: ObjectStore = page.DictStore(secrets.token_hex(8))
        return made
