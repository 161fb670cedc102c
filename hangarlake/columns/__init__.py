"""Sample columns: views, staging, layout in chunks, reading."""

from hangarlake.columns.column import Column
from hangarlake.columns.lazy import LazyArray
from hangarlake.columns.writable import WritableColumn

__all__ = ["Column", "LazyArray", "WritableColumn"]
