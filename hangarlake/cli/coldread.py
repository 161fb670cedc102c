"""What the demo's second process does: open a repository cold, read one sample and a batch, and count what that takes.

The request comes as JSON on standard input, the answer goes as JSON to standard output.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from hangarlake import Repository
from hangarlake.storage import open_store
from hangarlake.testing import CountingStore

__all__ = ["read"]


def read(request: dict[str, Any]) -> dict[str, Any]:
    """Open, read, count."""
    plain = open_store(request["url"], request["options"])
    # A local store answers so fast that requests made at once would look as if each had waited for the one before.
    store = CountingStore(plain, latency=0.005)
    with Repository.open(store).checkout(request["rev"]) as view:
        column = view.columns[request["column"]]
        sample = column[request["key"]]
        one = _cost(store)
        column.batch(request["batch"])
        both = _cost(store)
    return {
        "sample": sample.tolist(),
        "one": one,
        "batch": {name: both[name] - one[name] for name in both},
        "stored": sum(info.size for info in plain.list("")),
    }


def _cost(store: CountingStore) -> dict[str, int]:
    return {"requests": len(store.requests), "bytes": store.bytes_read, "round_trips": store.round_trips()}


if __name__ == "__main__":
    json.dump(read(json.load(sys.stdin)), sys.stdout)
