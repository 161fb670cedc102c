"""Zarr chunks: codecs, packs, verified and coalesced reads, caches."""
