"""Aids for tests of stores and of what is built on them: a conformance suite, faults, counting, servers.

`StoreConformance` and `hangarlake.testing.servers` need the packages of the ``test`` dependency group; the rest needs nothing more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hangarlake.testing.counting import CountingStore, Request
from hangarlake.testing.faults import Fault, FaultyStore
from hangarlake.testing.wrapping import WrappingStore

if TYPE_CHECKING:
    from hangarlake.testing.conformance import StoreConformance

__all__ = ["CountingStore", "Fault", "FaultyStore", "Request", "StoreConformance", "WrappingStore"]


def __getattr__(name: str) -> object:
    if name == "StoreConformance":
        from hangarlake.testing.conformance import StoreConformance

        return StoreConformance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
