"""N-dimensional Zarr v3 arrays and groups: a Zarr store, and arrays that are read and written directly."""

from hangarlake.arrays import merging as _merging  # what merges are told of arrays
from hangarlake.arrays.array import Array, WritableArray
from hangarlake.arrays.comparing import ArrayChangeStats

__all__ = ["Array", "ArrayChangeStats", "WritableArray"]

_merging.register()
