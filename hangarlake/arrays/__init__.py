"""N-dimensional Zarr v3 arrays and groups: a Zarr store, and arrays that are read and written directly."""

from hangarlake.arrays.array import Array, WritableArray

__all__ = ["Array", "WritableArray"]
