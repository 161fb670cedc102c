"""Sample columns: views, staging, layout in chunks, reading."""

from hangarlake.columns.column import Column, WritableColumn
from hangarlake.columns.lazy import LazyArray

__all__ = ["Column", "LazyArray", "WritableColumn"]
